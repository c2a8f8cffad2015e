// What the store did not take when a request ended, on this machine's disk until it does: a gateway that is killed meanwhile settles it when it
// starts again. Each is a file of its own, so that nothing is rewritten, and any gateway of this machine may finish what another left.
import { mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { PriceSchema } from "#gen/drawbridge/v1/access_service";
import { type Outcome, OutcomeSchema } from "#gen/drawbridge/v1/usage";
import type { Log } from "../../kit/log.ts";
import type { SettledHold } from "./settlement.ts";

/** A hold, and how its request ended: all that a settlement needs. */
export interface Kept {
  readonly hold: SettledHold;
  readonly outcome: Outcome;
}

export interface Unsettled {
  /** Resolves when a kill of this process, or of this machine, cannot lose it any more. */
  keep(kept: Kept): Promise<void>;
  /** It is in the ledger now, or will never be. */
  drop(requestId: string): Promise<void>;
  /** What was left here, in no order, at most so many. */
  load(limit: number): Promise<Kept[]>;
}

/** Requests' ids are ours; what is no such file is not, or is only half written. */
const fileName = /^[A-Za-z0-9_-]{1,128}\.json$/;

export function createUnsettled(folder: string, log: Log): Unsettled {
  const fileOf = (requestId: string) => join(folder, `${requestId}.json`);

  async function read(name: string): Promise<Kept | undefined> {
    try {
      return decode(await readFile(join(folder, name), "utf8"));
    } catch (error) {
      // Another gateway may just have finished it.
      if (!isMissing(error)) log.error({ err: error, file: join(folder, name) }, "a kept settlement cannot be read");
      return undefined;
    }
  }

  return {
    async keep(kept) {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      const path = fileOf(kept.hold.requestId);
      // Under its name it is whole: a kill while it is written leaves no half of it to be read.
      const half = `${path}.${process.pid}`;
      await using file = await open(half, "w", 0o600);
      await file.writeFile(encode(kept));
      await file.sync();
      await rename(half, path);
    },

    drop: (requestId) => rm(fileOf(requestId), { force: true }),

    async load(limit) {
      const names = await readdir(folder).catch((error: unknown) => {
        if (isMissing(error)) return [];
        throw error;
      });
      const ours = names.filter((name) => fileName.test(name)).slice(0, limit);
      return (await Promise.all(ours.map(read))).filter((each) => each !== undefined);
    },
  };
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}

interface Stored {
  readonly requestId: string;
  readonly userId: string;
  readonly price?: JsonValue;
  readonly outcome: JsonValue;
}

function encode({ hold: { requestId, userId, price }, outcome }: Kept): string {
  const stored: Stored = {
    requestId,
    userId,
    ...(price ? { price: toJson(PriceSchema, price) } : {}),
    outcome: toJson(OutcomeSchema, outcome),
  };
  return JSON.stringify(stored);
}

function decode(text: string): Kept {
  const { requestId, userId, price, outcome } = JSON.parse(text) as Stored;
  return {
    hold: { requestId, userId, price: price === undefined ? undefined : fromJson(PriceSchema, price) },
    outcome: fromJson(OutcomeSchema, outcome),
  };
}
