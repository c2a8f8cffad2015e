// Holds, and their settlement into the usage ledger.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { PriceSchema } from "#gen/drawbridge/v1/access_service";
import { UsageEntrySchema } from "#gen/drawbridge/v1/usage";
import { checkAdmitRequest, checkSettleRequest } from "../checks.ts";
import { type Levels, levelsAt, limitStatus, tighter } from "../limits.ts";
import { decode, encode } from "../records.ts";
import type { HoldRecord, Ledger, SettleRequest } from "../state.ts";
import { limitsOf } from "./access-keys.ts";
import { createActiveIndex } from "./active.ts";
import { admit } from "./admission.ts";
import type { Context, ObservedContext } from "./context.ts";
import { fields, text, texts } from "./replies.ts";
import { createUsage } from "./usage.ts";
import { quotaOf } from "./users.ts";

export function createLedger(context: ObservedContext): Ledger {
  const { connection, keys, changes } = context;
  const active = createActiveIndex({
    connection,
    index: keys.activeUsers,
    openSet: keys.holds,
    everybody: ["ZRANGE", keys.users, 0, -1],
  });
  const readHolds = createHoldReader(context);
  const { usage, trim } = createUsage(context);

  return {
    onChange: changes.onChange,

    async admit(request) {
      checkAdmitRequest(request);
      await active.mark(request.userId, request.now);
      return admit(context, request);
    },

    async settle(request) {
      checkSettleRequest(request);
      const reply = await connection.script(
        "settle-hold",
        settleKeys(context, request),
        settleArguments(context, request),
      );
      if (reply === null) return undefined;
      const [settled, entry] = texts(reply);
      if (settled === "1") changes.notify();
      return { settled: settled === "1", entry: decode(UsageEntrySchema, entry) };
    },

    async renew(holds, expiresAt) {
      // A key that limits concurrency counts its own.
      const places = holds.flatMap(({ userId, requestId, keyId }) => [
        { requestId, index: keys.holds(userId) },
        { requestId, index: keys.keyHolds(userId, keyId) },
      ]);
      await connection.together(
        [...Map.groupBy(places, ({ index }) => index)].map(([index, its]) => [
          "ZADD",
          index,
          "XX",
          ...its.flatMap(({ requestId }) => [expiresAt, requestId]),
        ]),
      );
    },

    async expired(now, limit) {
      const due = await active.due(now, limit);
      return readHolds(due.map(({ id, member, score }) => ({ userId: id, requestId: member, expiresAt: score })));
    },

    async hold(userId, requestId) {
      const expiresAt = text(await connection.command("ZSCORE", keys.holds(userId), requestId));
      if (expiresAt === undefined) return undefined;
      return (await readHolds([{ userId, requestId, expiresAt: Number(expiresAt) }]))[0];
    },

    async limits(userId, tier, now, keyId) {
      const user = levelsOf(fields(await connection.command("HGETALL", keys.user(userId))));
      const ofUser = limitStatus(levelsAt(user, tier, now), tier);
      if (keyId === undefined) return ofUser;
      const key = fields(await connection.command("HGETALL", keys.key(userId, keyId)));
      const limits = limitsOf(key);
      return limits ? tighter(ofUser, limitStatus(levelsAt(levelsOf(key), limits, now), limits)) : ofUser;
    },

    async quota(userId) {
      const names = ["granted", "available", "held", "spent"];
      const amounts = texts(await connection.command("HMGET", keys.user(userId), ...names));
      return amounts[0] === undefined ? undefined : quotaOf(amounts);
    },

    usage,
    trim,
  };
}

/** The stored buckets of a user or a key; undefined: nothing was ever taken from them. */
function levelsOf(stored: ReadonlyMap<string, string>): Levels | undefined {
  const at = stored.get("at");
  if (at === undefined) return undefined;
  // A bucket that was not limited before is full.
  const level = (name: string) => Number(stored.get(name) ?? Number.POSITIVE_INFINITY);
  return { requests: level("requests"), tokens: level("tokens"), at: Number(at) };
}

function settleKeys({ keys }: Context, { userId, requestId }: SettleRequest): string[] {
  return [
    keys.user(userId),
    keys.hold(userId, requestId),
    keys.holds(userId),
    keys.usage(userId),
    keys.entries(userId),
  ];
}

function settleArguments({ keys }: Context, request: SettleRequest): (string | number)[] {
  const { usage } = request;
  const entry = create(UsageEntrySchema, {
    requestId: request.requestId,
    userId: request.userId,
    accountId: request.accountId,
    ...(usage ? { usage } : {}),
    millicredits: BigInt(request.millicredits),
    end: request.end,
    at: timestampFromMs(request.now),
  });
  const tokens = usage ? usage.inputTokens + usage.outputTokens : 0n;
  return [
    request.requestId,
    request.costMicros,
    String(tokens),
    request.now,
    encode(UsageEntrySchema, entry),
    keys.key(request.userId, ""),
    keys.keyHolds(request.userId, ""),
  ];
}

type Place = Pick<HoldRecord, "userId" | "requestId" | "expiresAt">;

/** Reads the records of open holds; one that was settled meanwhile is left out. */
function createHoldReader({ connection, keys }: Context) {
  return async (places: readonly Place[]): Promise<HoldRecord[]> => {
    const records = await connection.together(
      places.map(({ userId, requestId }) => ["HGETALL", keys.hold(userId, requestId)]),
    );
    return places.flatMap((place, index) => {
      const stored = fields(records[index]);
      return stored.size === 0 ? [] : [holdOf(place, stored)];
    });
  };
}

function holdOf(place: Place, stored: ReadonlyMap<string, string>): HoldRecord {
  const price = stored.get("price");
  return {
    requestId: place.requestId,
    userId: place.userId,
    keyId: stored.get("key") ?? "",
    model: stored.get("model") ?? "",
    holdMicros: Number(stored.get("micros")),
    tokens: Number(stored.get("tokens")),
    price: price ? decode(PriceSchema, price) : undefined,
    createdAt: Number(stored.get("created_at")),
    expiresAt: place.expiresAt,
  };
}
