// How leases ended, told to the scheduler. What it does not take now is told again in the background: the worker tells it too, but may be gone.
import type { Outcome } from "#gen/drawbridge/v1/usage";
import type { Clock } from "../kit/clock.ts";
import { asDrawbridgeError } from "../kit/errors.ts";
import type { Log } from "../kit/log.ts";
import { backoffMs, type Random } from "../kit/random.ts";
import type { SchedulerCalls } from "./fleet-client.ts";

export interface Reports extends AsyncDisposable {
  /** Resolves after the first try, however it went. Never throws. */
  send(outcome: Outcome): Promise<void>;
}

export interface ReportsOptions {
  readonly scheduler: Pick<SchedulerCalls, "report">;
  /** For one try, in ms. */
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

/** Reports that may wait; beyond that the worker's own report or the lease's expiry settles it. */
const pendingMax = 10_000;
const retryBaseMs = 200;
const retryMaxMs = 1_000;
/** A scheduler or a store that was away for longer has settled the lease otherwise: it lives for a minute. */
const triesMax = 120;

export function createReports(options: ReportsOptions): Reports {
  const { scheduler, timeoutMs, clock, log } = options;
  const ending = new AbortController();
  const pending = new Set<Promise<void>>();

  /** Whether it need not be told again. */
  async function tell(outcome: Outcome): Promise<boolean> {
    try {
      await scheduler.report({ outcome }, { timeoutMs });
      return true;
    } catch (error) {
      const { reason } = asDrawbridgeError(error);
      log.warn({ err: error, attempt_id: outcome.attemptId }, "lease could not be reported");
      return reason !== "STATE_UNAVAILABLE" && reason !== "DEADLINE_EXCEEDED";
    }
  }

  async function tellLater(outcome: Outcome): Promise<void> {
    for (let failures = 1; failures < triesMax; failures += 1) {
      try {
        await clock.sleep(backoffMs(failures, retryBaseMs, retryMaxMs, options.random), ending.signal);
      } catch {
        // Only the end interrupts it.
        return;
      }
      if (await tell(outcome)) return;
    }
  }

  return {
    async send(outcome) {
      if ((await tell(outcome)) || ending.signal.aborted || pending.size >= pendingMax) return;
      const later = tellLater(outcome).finally(() => pending.delete(later));
      pending.add(later);
    },

    async [Symbol.asyncDispose]() {
      ending.abort();
      await Promise.all(pending);
    },
  };
}
