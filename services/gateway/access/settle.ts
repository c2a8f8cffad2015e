// The one exit of every admitted request: what it cost is charged, the rest of its hold is released, whatever happened in between.
import { End, type Outcome, type UsageEntry } from "#gen/drawbridge/v1/usage";
import type { Clock } from "../../kit/clock.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { Log } from "../../kit/log.ts";
import { backoffMs, type Random } from "../../kit/random.ts";
import type { Ledger } from "../../state/state.ts";
import type { Holds } from "./holds.ts";
import { type SettledHold, type Settlement, settlementOf } from "./settlement.ts";
import type { Kept, Unsettled } from "./unsettled.ts";

export interface Settler extends AsyncDisposable {
  /**
   * Ends a hold. `outcome` undefined: nothing ran. Never throws: what the store does not take now is kept on disk before this resolves, and tried
   * again in the background; then there is no entry to give.
   */
  settle(hold: SettledHold, outcome: Outcome | undefined): Promise<UsageEntry | undefined>;
  /** Settles what a gateway that was killed had kept here; how these requests ended, since their leases may be open, too. Never throws. */
  resume(): Promise<readonly Outcome[]>;
}

export interface SettlerOptions {
  readonly ledger: Ledger;
  readonly holds: Holds;
  /** Where they are kept while the store is away. */
  readonly unsettled: Unsettled;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Settlements that may wait for the store. Beyond that they are left to the sweep. Default 10,000. */
  readonly pendingMax?: number;
}

const defaultPendingMax = 10_000;
const retryBaseMs = 200;
/** A call to a store that is known to be away costs next to nothing, and the sooner it is settled the less can be lost. */
const retryMaxMs = 1_000;
/** Tries of a settlement that the store refuses. While the store is away it is tried for as long as it takes. */
const refusalsMax = 10;

export function isStoreAway(error: unknown): boolean {
  return error instanceof DrawbridgeError && error.reason === "STATE_UNAVAILABLE";
}

export function createSettler(options: SettlerOptions): Settler {
  const { ledger, holds, unsettled, clock, log, pendingMax = defaultPendingMax } = options;
  const ending = new AbortController();
  const pending = new Set<Promise<void>>();

  const tryLater = (settlement: Settlement, failures: number) => {
    if (pending.size >= pendingMax) {
      log.error({ request_id: settlement.requestId }, "too many settlements wait for the store; left to the sweep");
      holds.remove(settlement.requestId);
      return;
    }
    const later = settleLater(options, settlement, failures, ending.signal).finally(() => pending.delete(later));
    pending.add(later);
  };

  return {
    async settle(hold, outcome) {
      const settlement = settlementOf(hold, outcome, End.FAILED_BEFORE_CONTENT);
      try {
        const result = await ledger.settle({ ...settlement, now: clock.now() });
        holds.remove(hold.requestId);
        return result?.entry;
      } catch (error) {
        log.error({ err: error, request_id: hold.requestId }, "settlement failed; it is tried again");
        if (outcome && settlement.costMicros + settlement.millicredits > 0) await keep(options, { hold, outcome });
        tryLater(settlement, 1);
        return undefined;
      }
    },

    async resume() {
      const left = await unsettled.load(pendingMax).catch((error: unknown) => {
        log.error({ err: error }, "kept settlements cannot be read; the sweep settles their holds");
        return [];
      });
      if (left.length > 0) log.warn({ settlements: left.length }, "settling what an ended gateway had kept");
      for (const { hold, outcome } of left) tryLater(settlementOf(hold, outcome, outcome.end), 0);
      return left.map(({ outcome }) => outcome);
    },

    async [Symbol.asyncDispose]() {
      ending.abort();
      await Promise.all(pending);
    },
  };
}

async function keep({ unsettled, log }: SettlerOptions, kept: Kept): Promise<void> {
  try {
    await unsettled.keep(kept);
  } catch (error) {
    const { requestId } = kept.hold;
    log.error({ err: error, request_id: requestId }, "a settlement is in memory only: it could not be written to disk");
  }
}

/** Until the store takes it. The hold is renewed meanwhile, so that no sweep settles it with less than is known here. */
async function settleLater(
  options: SettlerOptions,
  settlement: Settlement,
  failuresBefore: number,
  signal: AbortSignal,
): Promise<void> {
  const { ledger, holds, unsettled, clock, random, log } = options;
  const { requestId } = settlement;
  let refusals = 0;
  for (let failures = failuresBefore; !signal.aborted && refusals < refusalsMax; failures += 1) {
    try {
      if (failures > 0) await clock.sleep(backoffMs(failures, retryBaseMs, retryMaxMs, random), signal);
      await ledger.settle({ ...settlement, now: clock.now() });
      holds.remove(requestId);
      log.info({ request_id: requestId, failures }, "settled late");
      await unsettled.drop(requestId);
      return;
    } catch (error) {
      if (signal.aborted) break;
      if (!isStoreAway(error)) refusals += 1;
      log.debug({ err: error, request_id: requestId, failures }, "settlement failed again");
    }
  }
  holds.remove(requestId);
  if (!signal.aborted) log.error({ request_id: requestId }, "the store refuses a settlement; it is left to the sweep");
}
