// What became of attempts, remembered for the sweeps: once by attempt, and the final one by request.
import { toJson } from "@bufbuild/protobuf";
import { type Outcome, OutcomeSchema } from "#gen/drawbridge/v1/usage";
import { decodeValue } from "../records.ts";
import type { OutcomeStore } from "../state.ts";
import type { ObservedContext } from "./context.ts";
import { text } from "./replies.ts";

interface StoredOutcome {
  readonly expiresAt: number;
  readonly outcome: unknown;
}

export function createOutcomeStore({ connection, keys, changes }: ObservedContext): OutcomeStore {
  const read = async (key: string, now: number): Promise<Outcome | undefined> => {
    const stored = text(await connection.command("GET", key));
    if (stored === undefined) return undefined;
    const { expiresAt, outcome } = JSON.parse(stored) as StoredOutcome;
    return expiresAt > now ? decodeValue(OutcomeSchema, outcome) : undefined;
  };
  return {
    onChange: changes.onChange,

    async record(outcome, ttlMs, now) {
      const record: StoredOutcome = { expiresAt: now + ttlMs, outcome: toJson(OutcomeSchema, outcome) };
      const stored = JSON.stringify(record);
      const key = keys.outcome(outcome.attemptId);
      const first = text(await connection.command("SET", key, stored, "PX", ttlMs, "NX")) === "OK";
      // The attempt and the request stand in different slots. What counts for the request is what counts for the attempt, so a recording that
      // was cut short between the two is completed by the next one.
      const kept = first ? outcome : await read(key, now);
      if (kept?.content) {
        const final = first ? stored : JSON.stringify({ ...record, outcome: toJson(OutcomeSchema, kept) });
        await connection.command("SET", keys.finalOutcome(kept.requestId), final, "PX", ttlMs, "NX");
      }
      if (first) changes.notify();
    },

    byAttempt: (attemptId, now) => read(keys.outcome(attemptId), now),

    finalOf: (requestId, now) => read(keys.finalOutcome(requestId), now),
  };
}
