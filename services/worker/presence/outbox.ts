// Outcomes that the registry has not acknowledged. Nothing is dropped before the limit.
import type { Outcome } from "#gen/drawbridge/v1/usage";
import type { Log } from "../../kit/log.ts";

export interface Outbox {
  add(outcome: Outcome): void;
  /** The oldest ones, at most so many. */
  oldest(count: number): Outcome[];
  /** They are recorded elsewhere. */
  acknowledge(attemptIds: readonly string[]): void;
  readonly size: number;
}

export interface OutboxOptions {
  readonly sizeMax: number;
  readonly log: Log;
}

export function createOutbox({ sizeMax, log }: OutboxOptions): Outbox {
  // A Map keeps the order in which outcomes came.
  const outcomes = new Map<string, Outcome>();
  return {
    add(outcome) {
      outcomes.set(outcome.attemptId, outcome);
      if (outcomes.size <= sizeMax) return;
      const [oldest] = outcomes.keys();
      if (oldest === undefined) return;
      outcomes.delete(oldest);
      log.error({ attempt_id: oldest, limit: sizeMax }, "too many outcomes are undelivered; the oldest was dropped");
    },
    oldest(count) {
      const found: Outcome[] = [];
      for (const outcome of outcomes.values()) {
        if (found.length >= count) break;
        found.push(outcome);
      }
      return found;
    },
    acknowledge(attemptIds) {
      for (const id of attemptIds) outcomes.delete(id);
    },
    get size() {
      return outcomes.size;
    },
  };
}
