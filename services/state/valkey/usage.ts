// Reading and trimming the usage ledger. Each user's entries stand in the user's own slot; a question about all users goes through them in groups
// and keeps no more than a page.
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type UsageEntry, UsageEntrySchema } from "#gen/drawbridge/v1/usage";
import { comparePositions, pagePosition, pageToken, type UsagePosition } from "../paging.ts";
import { decode } from "../records.ts";
import type { Ledger, UsageQuery } from "../state.ts";
import type { Argument } from "./connection.ts";
import type { Context } from "./context.ts";
import { scored, texts } from "./replies.ts";

/** Users that are asked at a time. */
const groupSize = 50;
/** Entries of one user that are read at a time. */
const batchSize = 200;
/** Arguments of one deletion. */
const deleteMax = 1_000;

export function createUsage(context: Context): Pick<Ledger, "usage" | "trim"> {
  return {
    async usage(query) {
      const before = query.pageToken ? pagePosition(query.pageToken) : undefined;
      let newest: UsageEntry[] = [];
      for await (const group of userGroups(context, query.userId)) {
        // Once the page is full, only what is newer than its oldest entry counts.
        const oldest = newest.length > query.limit ? newest.at(-1) : undefined;
        const since = Math.max(query.since ?? 0, oldest ? timeOf(oldest) : 0);
        const pages = await Promise.all(group.map((userId) => entriesOf(context, userId, { ...query, since }, before)));
        newest = [...newest, ...pages.flat()]
          .toSorted((a, b) => comparePositions(positionOf(b), positionOf(a)))
          .slice(0, query.limit + 1);
      }
      const entries = newest.slice(0, query.limit);
      const last = entries.at(-1);
      return { entries, nextPageToken: newest.length > entries.length && last ? pageToken(positionOf(last)) : "" };
    },

    async trim(before, limit) {
      let oldest: UsagePosition[] = [];
      for await (const group of userGroups(context, undefined)) {
        const pages = await Promise.all(group.map((userId) => oldestOf(context, userId, before, limit)));
        oldest = [...oldest, ...pages.flat()].toSorted(comparePositions).slice(0, limit);
      }
      let deleted = 0;
      for (const [userId, its] of Map.groupBy(oldest, (position) => position.userId)) {
        for (let start = 0; start < its.length; start += deleteMax) {
          const requests = its.slice(start, start + deleteMax).map(({ requestId }) => requestId);
          deleted += await deleteEntries(context, userId, requests);
        }
      }
      return deleted;
    },
  };
}

async function* userGroups({ connection, keys }: Context, userId: string | undefined): AsyncGenerator<string[]> {
  if (userId !== undefined) {
    yield [userId];
    return;
  }
  let after = "-";
  for (;;) {
    const reply = await connection.command("ZRANGEBYLEX", keys.users, after, "+", "LIMIT", 0, groupSize);
    const ids = texts(reply).map((id) => id ?? "");
    if (ids.length === 0) return;
    yield ids;
    after = `(${ids.at(-1)}`;
  }
}

/** A user's entries that the query asks for, newest first: one more than a page at most. */
async function entriesOf(
  context: Context,
  userId: string,
  query: UsageQuery,
  before: UsagePosition | undefined,
): Promise<UsageEntry[]> {
  const found: UsageEntry[] = [];
  let position = before;
  let skipped = 0;
  while (found.length <= query.limit) {
    const { since, until } = query;
    const batch = await placesBefore(context, userId, { since, until, position, skipped });
    const entries = await readEntries(context, userId, batch.places);
    found.push(...entries.filter((entry) => matches(entry, query)));
    if (!batch.full) break;
    // A batch without a place before the position is one of the same moment: further on in it there are others.
    skipped = batch.places.length > 0 ? 0 : skipped + batchSize;
    position = batch.places.at(-1) ?? position;
  }
  return found.slice(0, query.limit + 1);
}

function matches(entry: UsageEntry, query: UsageQuery): boolean {
  return (
    (query.keyId === undefined || entry.keyId === query.keyId) &&
    (query.model === undefined || entry.model === query.model) &&
    (query.until === undefined || timeOf(entry) < query.until)
  );
}

interface Range {
  readonly since: number | undefined;
  readonly until: number | undefined;
  readonly position: UsagePosition | undefined;
  readonly skipped: number;
}

/** The next places of a user's ledger before a position, newest first; `full`: there may be more. */
async function placesBefore({ connection, keys }: Context, userId: string, range: Range) {
  const { since, until, position, skipped } = range;
  const newest: Argument = position?.at ?? (until === undefined ? "+inf" : `(${until}`);
  const reply = await connection.command(
    "ZRANGE",
    keys.usage(userId),
    newest,
    since ?? "-inf",
    "BYSCORE",
    "REV",
    "LIMIT",
    skipped,
    batchSize,
    "WITHSCORES",
  );
  const all = scored(reply).map(({ member, score }) => ({ at: score, requestId: member, userId }));
  const places = position ? all.filter((place) => comparePositions(place, position) < 0) : all;
  return { places, full: all.length === batchSize };
}

async function readEntries(context: Context, userId: string, places: readonly UsagePosition[]): Promise<UsageEntry[]> {
  if (places.length === 0) return [];
  const { connection, keys } = context;
  const ids = places.map(({ requestId }) => requestId);
  // An entry that was trimmed meanwhile is left out.
  return texts(await connection.command("HMGET", keys.entries(userId), ...ids)).flatMap((entry) =>
    entry === undefined ? [] : [decode(UsageEntrySchema, entry)],
  );
}

async function oldestOf({ connection, keys }: Context, userId: string, before: number, limit: number) {
  const range: Argument[] = ["-inf", `(${before}`, "BYSCORE", "LIMIT", 0, limit, "WITHSCORES"];
  const reply = await connection.command("ZRANGE", keys.usage(userId), ...range);
  return scored(reply).map(({ member, score }) => ({ at: score, requestId: member, userId }));
}

async function deleteEntries({ connection, keys }: Context, userId: string, ids: readonly string[]): Promise<number> {
  return Number(await connection.script("delete-entries", [keys.usage(userId), keys.entries(userId)], ids));
}

function timeOf(entry: UsageEntry): number {
  return entry.at ? timestampMs(entry.at) : 0;
}

function positionOf(entry: UsageEntry): UsagePosition {
  return { at: timeOf(entry), requestId: entry.requestId, userId: entry.userId };
}
