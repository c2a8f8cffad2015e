// Breakers, shared by all schedulers.
import { clone } from "@bufbuild/protobuf";
import { type Breaker, BreakerSchema } from "#gen/drawbridge/v1/account";
import { compareBytes } from "../paging.ts";
import { decode, encode } from "../records.ts";
import type { BreakerStore } from "../state.ts";
import type { ObservedContext } from "./context.ts";
import { text, texts } from "./replies.ts";

export function createBreakerStore({ connection, keys, changes }: ObservedContext): BreakerStore {
  return {
    onChange: changes.onChange,

    async get(accountId) {
      return breakerOf(await connection.command("GET", keys.breaker(accountId)));
    },

    async list() {
      const ids = texts(await connection.command("SMEMBERS", keys.breakers)).map((id) => id ?? "");
      const sorted = ids.toSorted(compareBytes);
      const records = await connection.values(sorted.map(keys.breaker));
      return records.map(breakerOf).filter((breaker) => breaker !== undefined);
    },

    async compareAndSet(breaker) {
      const next = clone(BreakerSchema, breaker);
      next.revision = breaker.revision + 1n;
      // First the list: a name in it without a breaker is skipped, a breaker that is not in it would be lost.
      if (breaker.revision === 0n) await connection.command("SADD", keys.breakers, breaker.accountId);
      const args = [String(breaker.revision), encode(BreakerSchema, next)];
      const written = text(await connection.script("write-breaker", [keys.breaker(breaker.accountId)], args)) === "1";
      if (!written) return undefined;
      changes.notify();
      return next;
    },
  };
}

function breakerOf(record: unknown): Breaker | undefined {
  return record === null || record === undefined ? undefined : decode(BreakerSchema, record);
}
