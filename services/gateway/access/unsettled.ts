// Settlements that the store did not take, on this machine's disk until it does: a gateway that is killed meanwhile settles them when it starts
// again. Each is a file of its own, so that nothing is rewritten, and any gateway of this machine may finish what another left.
import { mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { create, fromJsonString, toJsonString } from "@bufbuild/protobuf";
import { type UsageEntry, UsageEntrySchema } from "#gen/drawbridge/v1/usage";
import { toAmount } from "./money.ts";
import type { Log } from "../../kit/log.ts";
import type { Settlement } from "./settle.ts";

export interface Unsettled {
  /** Resolves when a kill of this process, or of this machine, cannot lose it any more. */
  keep(settlement: Settlement): Promise<void>;
  /** It is in the ledger now, or will never be. */
  drop(requestId: string): Promise<void>;
  /** What was left here, in no order, at most so many. */
  load(limit: number): Promise<Settlement[]>;
}

const suffix = ".json";
/** Ids of requests are ours; what is no such file is not ours. */
const fileName = /^[A-Za-z0-9_-]{1,128}\.json$/;

export function createUnsettled(folder: string, log: Log): Unsettled {
  const fileOf = (requestId: string) => join(folder, `${requestId}${suffix}`);

  async function read(name: string): Promise<Settlement | undefined> {
    try {
      return settlementFrom(fromJsonString(UsageEntrySchema, await readFile(join(folder, name), "utf8")));
    } catch (error) {
      // Another gateway may just have finished it.
      if (!isMissing(error)) log.error({ err: error, file: join(folder, name) }, "a kept settlement cannot be read");
      return undefined;
    }
  }

  return {
    async keep(settlement) {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      const path = fileOf(settlement.requestId);
      // Under its name it is whole: a kill while it is written leaves no half of it to be read.
      const half = `${path}.${process.pid}`;
      await using file = await open(half, "w", 0o600);
      await file.writeFile(toJsonString(UsageEntrySchema, entryFrom(settlement)));
      await file.sync();
      await rename(half, path);
    },

    drop: (requestId) => rm(fileOf(requestId), { force: true }),

    async load(limit) {
      const names = await readdir(folder).catch((error: unknown) => {
        if (isMissing(error)) return [];
        throw error;
      });
      const found = await Promise.all(
        names
          .filter((name) => fileName.test(name))
          .slice(0, limit)
          .map(read),
      );
      return found.filter((each) => each !== undefined);
    },
  };
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}

function entryFrom(settlement: Settlement): UsageEntry {
  const { usage } = settlement;
  return create(UsageEntrySchema, {
    requestId: settlement.requestId,
    userId: settlement.userId,
    accountId: settlement.accountId,
    costMicros: BigInt(settlement.costMicros),
    millicredits: BigInt(settlement.millicredits),
    end: settlement.end,
    ...(usage ? { usage } : {}),
  });
}

function settlementFrom(entry: UsageEntry): Settlement {
  return {
    requestId: entry.requestId,
    userId: entry.userId,
    accountId: entry.accountId,
    costMicros: toAmount(entry.costMicros),
    millicredits: toAmount(entry.millicredits),
    end: entry.end,
    usage: entry.usage,
  };
}
