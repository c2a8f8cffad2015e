// Which failures of an attempt move on to another account, and how many retries an outage may cost.
import type { Clock } from "../kit/clock.ts";
import type { Reason } from "../kit/errors.ts";

/**
 * What to do after an attempt failed before content; docs/scheduling.md shows the table, and a test holds the two together. `move`: another account may do better. `again`: the fault was the process, not the account,
 * so that the same account may do better too. Reasons that are not here end the request: trying elsewhere would fail the same way.
 */
export const afterFailure: Partial<Record<Reason, "move" | "again">> = {
  QUEUE_FULL: "move",
  DRAINING: "again",
  LEASE_INVALID: "again",
  NOT_FOUND: "move",
  AGENT_CRASHED: "again",
  AGENT_PROTOCOL: "again",
  WORKER_UNREACHABLE: "again",
  AGENT_ERROR: "move",
  AGENT_UNAUTHENTICATED: "move",
  AGENT_RATE_LIMITED: "move",
  AGENT_USAGE_LIMIT: "move",
  INTERNAL: "move",
  // The worker's deadline for the first content, where time is left: the caller's own deadline is looked at apart.
  DEADLINE_EXCEEDED: "move",
};

export function nextStep(reason: Reason): "move" | "again" | "stop" {
  return afterFailure[reason] ?? "stop";
}

export interface RetryBudgetOptions {
  /** Retries, as a share of the requests. */
  readonly share: number;
  /** The most retries at once. */
  readonly burst: number;
  /** Retries that come back in a second without any request. */
  readonly perSecond: number;
  readonly clock: Clock;
}

export interface RetryBudget {
  /** A request began: it earns a share of a retry. */
  earn(): void;
  /** Takes a retry; false: the budget is spent. */
  spend(): boolean;
}

/**
 * Retries are at most a share of the requests, with a burst on top that comes back with time, so that an outage of everything is not multiplied
 * and a quiet fleet keeps its retries. The idea is that of Finagle's retry budget: a bucket that requests and time fill, and retries empty.
 */
export function createRetryBudget({ share, burst, perSecond, clock }: RetryBudgetOptions): RetryBudget {
  let balance = burst;
  let filledAt = clock.monotonic();
  const fill = (amount: number) => {
    const now = clock.monotonic();
    balance = Math.min(burst, balance + amount + ((now - filledAt) / 1_000) * perSecond);
    filledAt = now;
  };
  return {
    earn: () => fill(share),
    spend() {
      fill(0);
      if (balance < 1) return false;
      balance -= 1;
      return true;
    },
  };
}
