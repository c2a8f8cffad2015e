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

    async get(accountId) {
      const row = database.get("SELECT * FROM breakers WHERE account_id = ?", accountId);
      return row && breakerOf(row);
    },

    list: async () => database.all("SELECT * FROM breakers ORDER BY account_id").map(breakerOf),

    async compareAndSet(breaker) {
      const written = database.transaction(() => {
        const known = database.get("SELECT revision FROM breakers WHERE account_id = ?", breaker.accountId);
        if (BigInt(Number(known?.["revision"] ?? 0)) !== breaker.revision) return undefined;
        const next = clone(BreakerSchema, breaker);
        next.revision = BigInt(database.next("breakers"));
        database.run(
          "INSERT OR REPLACE INTO breakers VALUES (?, ?, ?)",
          next.accountId,
          encode(BreakerSchema, next),
          Number(next.revision),
        );
        return next;
      });
      if (written) changes.notify();
      return written;
    },
  };
}

function breakerOf(row: Row): Breaker {
  return decode(BreakerSchema, row["record"]);
}
