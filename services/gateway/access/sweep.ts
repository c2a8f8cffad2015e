// What a gateway that died left behind: holds that ended are settled from the recorded outcome, or released where there is none.
import { End } from "#gen/drawbridge/v1/usage";
import type { Clock } from "../../kit/clock.ts";
import type { Log } from "../../kit/log.ts";
import type { HoldRecord, State } from "../../state/state.ts";
import { isStoreAway } from "./settle.ts";
import { settlementOf } from "./settlement.ts";

export interface SweepOptions {
  readonly state: Pick<State, "ledger" | "outcomes">;
  /** Whether a request is this gateway's own: it settles that itself, with what it knows. */
  readonly isOwn: (requestId: string) => boolean;
  readonly clock: Clock;
  readonly log: Log;
  readonly intervalMs: number;
  /**
   * A hold for which no outcome is recorded is released only after the store has been reachable for so long, in ms. While it was away nobody could
   * renew a hold or record an outcome: what looks dead then may be alive, and the outcome is on its way. Default 0.
   */
  readonly releaseAfterMs?: number;
}

/** Holds that one round takes. */
const sweepLimit = 1_000;

/** New outcomes hurry the next round, but no more often than this. */
const hurryMs = 1_000;

/**
 * Settles holds whose time has ended; how many. One that cannot be settled stays for the next round and stops no other. Without `mayRelease`
 * only those whose outcome is recorded.
 */
export async function sweepHolds(options: SweepOptions, mayRelease = true): Promise<number> {
  const { state, isOwn, clock, log } = options;
  const expired = await state.ledger.expired(clock.now(), sweepLimit);
  let settled = 0;
  for (const hold of expired) {
    if (isOwn(hold.requestId)) continue;
    try {
      if (await sweepHold(options, hold, mayRelease)) settled += 1;
    } catch (error) {
      if (isStoreAway(error)) throw error;
      log.error({ err: error, request_id: hold.requestId, user: hold.userId }, "a hold could not be swept");
    }
  }
  return settled;
}

async function sweepHold({ state, clock, log }: SweepOptions, hold: HoldRecord, mayRelease: boolean): Promise<boolean> {
  const now = clock.now();
  const outcome = await state.outcomes.finalOf(hold.requestId, now);
  if (!outcome && !mayRelease) return false;
  const result = await state.ledger.settle({ ...settlementOf(hold, outcome, End.EXPIRED), now });
  if (!result?.settled) return false;
  log.warn({ request_id: hold.requestId, user: hold.userId, outcome: outcome !== undefined }, "hold was swept");
  return true;
}

/** Sweeps by time, and soon after outcomes were recorded, until the signal is aborted. Any number of gateways may do so. */
export async function keepSweeping(options: SweepOptions, signal: AbortSignal): Promise<void> {
  const { state, clock, log, intervalMs, releaseAfterMs = 0 } = options;
  const pauseMs = Math.min(hurryMs, intervalMs);
  let news = new AbortController();
  using _subscription = state.outcomes.onChange(() => news.abort());
  let reachableSince: number | undefined;
  while (!signal.aborted) {
    try {
      await clock.sleep(pauseMs, signal);
      await sleepUnless(news.signal, intervalMs - pauseMs, clock, signal);
      news = new AbortController();
      reachableSince ??= clock.monotonic();
      await sweepHolds(options, clock.monotonic() - reachableSince >= releaseAfterMs);
    } catch (error) {
      reachableSince = undefined;
      if (!signal.aborted) log.error({ err: error }, "holds could not be swept");
    }
  }
}

/** Sleeps until there is news. */
async function sleepUnless(news: AbortSignal, ms: number, clock: Clock, signal: AbortSignal): Promise<void> {
  try {
    await clock.sleep(ms, AbortSignal.any([news, signal]));
  } catch (error) {
    if (!news.aborted || signal.aborted) throw error;
  }
}
