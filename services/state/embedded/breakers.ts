// Breakers, shared by all schedulers.
import { clone } from "@bufbuild/protobuf";
import { type Breaker, BreakerSchema } from "#gen/drawbridge/v1/account";
import type { BreakerStore } from "../state.ts";
import type { Changes } from "./changes.ts";
import type { Database, Row } from "./database.ts";
import { decode, encode } from "../records.ts";

export function createBreakerStore(database: Database, changes: Changes): BreakerStore {
  return {
    onChange: changes.onChange,

    get: async (accountId) => findBreaker(database, accountId),

    list: async () => database.all("SELECT * FROM breakers ORDER BY account_id").map(breakerOf),

    async compareAndSet(breaker) {
      const written = database.transaction(() =>
        breakerRevision(database, breaker.accountId) === breaker.revision ? writeBreaker(database, breaker) : undefined,
      );
      if (written) changes.notify();
      return written;
    },
  };
}

export function findBreaker(database: Database, accountId: string): Breaker | undefined {
  const row = database.get("SELECT * FROM breakers WHERE account_id = ?", accountId);
  return row && breakerOf(row);
}

/** 0: there is none. */
export function breakerRevision(database: Database, accountId: string): bigint {
  const row = database.get("SELECT revision FROM breakers WHERE account_id = ?", accountId);
  return BigInt(Number(row?.["revision"] ?? 0));
}

/** Writes a breaker over whatever there is, with a new revision. Part of a transaction. */
export function writeBreaker(database: Database, breaker: Breaker): Breaker {
  const next = clone(BreakerSchema, breaker);
  next.revision = BigInt(database.next("breakers"));
  database.run(
    "INSERT OR REPLACE INTO breakers VALUES (?, ?, ?)",
    next.accountId,
    encode(BreakerSchema, next),
    Number(next.revision),
  );
  return next;
}

function breakerOf(row: Row): Breaker {
  return decode(BreakerSchema, row["record"]);
}
