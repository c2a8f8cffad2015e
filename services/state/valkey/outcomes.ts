// What became of attempts, remembered for the sweeps: once by attempt, and the final one by request. A request's outcomes share a slot.
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
      const { requestId, attemptId, content } = outcome;
      const record: StoredOutcome = { expiresAt: now + ttlMs, outcome: toJson(OutcomeSchema, outcome) };
      const outcomeKeys = [keys.outcome(requestId, attemptId), keys.finalOutcome(requestId)];
      const args = [JSON.stringify(record), content ? "1" : "", ttlMs];
      if (text(await connection.script("record-outcome", outcomeKeys, args)) === "1") changes.notify();
    },

    byAttempt: ({ requestId, attemptId }, now) => read(keys.outcome(requestId, attemptId), now),

    finalOf: (requestId, now) => read(keys.finalOutcome(requestId), now),
  };
}
