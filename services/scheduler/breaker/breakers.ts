// Breakers at work: each scheduler keeps its own window of recent calls; the state is shared through the store, changed by compare-and-set.
import type { Breaker } from "#gen/drawbridge/v1/account";
import type { Outcome } from "#gen/drawbridge/v1/usage";
import { BreakerState } from "#gen/drawbridge/v1/account";
import type { Clock } from "../../kit/clock.ts";
import type { Log } from "../../kit/log.ts";
import type { Random } from "../../kit/random.ts";
import type { BreakerStore } from "../../state/state.ts";
import { closedBreaker, returnProbe, sampleOf, slide, transition, type WindowEntry } from "./breaker.ts";
import type { BreakerPolicy } from "../config.ts";
import type { View } from "../fleet/view.ts";

export interface Breakers {
  /** Learns how a call ended. `probe`: it was one. */
  record(outcome: Outcome, probe: boolean): Promise<void>;
}

export interface BreakersOptions {
  readonly store: BreakerStore;
  readonly view: View;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly policy: BreakerPolicy;
}

/** Tries to win a compare-and-set against other schedulers. */
const triesMax = 8;

export function createBreakers({ store, view, clock, random, log, policy }: BreakersOptions): Breakers {
  const windows = new Map<string, readonly WindowEntry[]>();

  /** Applies a change to the stored breaker until it is written; undefined from `change`: nothing to write. */
  const update = async (accountId: string, change: (breaker: Breaker) => Breaker | undefined): Promise<boolean> => {
    for (let tries = 0; tries < triesMax; tries += 1) {
      const breaker = (await store.get(accountId)) ?? closedBreaker(accountId);
      const next = change(breaker);
      if (!next) return false;
      const written = await store.compareAndSet(next);
      if (!written) continue;
      view.setBreaker(written);
      if (written.state !== breaker.state) {
        const what = written.state === BreakerState.CLOSED ? "breaker closed" : "breaker opened or probing";
        log.warn({ account: accountId, reason: written.reason }, what);
      }
      return true;
    }
    log.warn({ account: accountId }, "a breaker could not be written: others were always first");
    return false;
  };

  return {
    async record(outcome, probe) {
      const { accountId } = outcome;
      if (!view.account(accountId)) {
        // Deleted meanwhile: nothing is to be learned, nor kept.
        windows.delete(accountId);
        return;
      }
      const sample = sampleOf(outcome, policy.slow_call);
      if (sample.kind === "neutral") {
        // What says nothing of the account must not use its probes up either.
        if (probe) await update(accountId, (breaker) => returnProbe(breaker, policy));
        return;
      }
      const now = clock.now();
      const entry = { at: now, failed: sample.kind === "failure", slow: sample.kind === "success" && sample.slow };
      const window = slide(windows.get(accountId) ?? [], entry, policy);
      windows.set(accountId, window);
      const known = view.account(accountId)?.breaker ?? closedBreaker(accountId);
      if (!transition({ breaker: known, sample, window, now, policy, random })) return;
      const changed = await update(accountId, (breaker) =>
        transition({ breaker, sample, window, now, policy, random }),
      );
      // What opened or closed it has had its effect; the next judgement is made of new calls.
      if (changed) windows.delete(accountId);
    },
  };
}
