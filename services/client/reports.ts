// How leases ended, told to the scheduler; and which attempts nobody is there for any more. What it does not take now is told again in the background: the
// worker tells of its prompts, too, but may be gone.
import type { Outcome } from "#gen/drawbridge/v1/usage";
import type { Clock } from "../kit/clock.ts";
import { asDrawbridgeError } from "../kit/errors.ts";
import type { Log } from "../kit/log.ts";
import { backoffMs, type Random } from "../kit/random.ts";
import type { SchedulerCalls } from "./fleet-client.ts";

export interface Reports extends AsyncDisposable {
  /** How an attempt ended. Resolves after the first try, however it went. Never throws. */
  send(outcome: Outcome): Promise<void>;
  /** That nobody is there for an attempt's lease, if it has got one. Resolves and never throws, likewise. */
  release(attemptId: string): Promise<void>;
}

export interface ReportsOptions {
  readonly scheduler: Pick<SchedulerCalls, "report" | "release">;
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
  async function tell(attemptId: string, call: () => Promise<unknown>): Promise<boolean> {
    try {
      await call();
      return true;
    } catch (error) {
      const { reason } = asDrawbridgeError(error);
      log.warn({ err: error, attempt_id: attemptId }, "the end of a lease could not be told");
      return reason !== "STATE_UNAVAILABLE" && reason !== "DEADLINE_EXCEEDED";
    }
  }

  async function tellLater(attemptId: string, call: () => Promise<unknown>): Promise<void> {
    for (let failures = 1; failures < triesMax; failures += 1) {
      try {
        await clock.sleep(backoffMs(failures, retryBaseMs, retryMaxMs, options.random), ending.signal);
      } catch {
        // Only the end interrupts it.
        return;
      }
      if (await tell(attemptId, call)) return;
    }
  }

  async function tellSurely(attemptId: string, call: () => Promise<unknown>): Promise<void> {
    if ((await tell(attemptId, call)) || ending.signal.aborted || pending.size >= pendingMax) return;
    const later = tellLater(attemptId, call).finally(() => pending.delete(later));
    pending.add(later);
  }

  return {
    send: (outcome) => tellSurely(outcome.attemptId, () => scheduler.report({ outcome }, { timeoutMs })),
    release: (attemptId) => tellSurely(attemptId, () => scheduler.release({ attemptId }, { timeoutMs })),

    async [Symbol.asyncDispose]() {
      ending.abort();
      await Promise.all(pending);
    },
  };
}
