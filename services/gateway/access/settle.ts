// The one exit of every admitted request: what it cost is charged, the rest of its hold is released, whatever happened in between.
import type { Price } from "#gen/drawbridge/v1/access_service";
import { End, type Outcome, type UsageEntry } from "#gen/drawbridge/v1/usage";
import type { Clock } from "../../kit/clock.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { Log } from "../../kit/log.ts";
import { backoffMs, type Random } from "../../kit/random.ts";
import type { Ledger, SettleRequest } from "../../state/state.ts";
import type { Holds } from "./holds.ts";
import { dueMicros, toAmount } from "./money.ts";

/** What is settled. */
export interface SettledHold {
  readonly userId: string;
  readonly requestId: string;
  /** As frozen at the admission. */
  readonly price: Price | undefined;
}

/** What the ledger is told of a hold whose request ended so. Without an outcome nothing is paid, and it ended as `endWithout` says. */
export function settlementOf(
  hold: SettledHold,
  outcome: Outcome | undefined,
  endWithout: End,
): Omit<SettleRequest, "now"> {
  const end = outcome?.end ?? endWithout;
  return {
    requestId: hold.requestId,
    userId: hold.userId,
    costMicros: dueMicros(end, outcome?.usage, hold.price),
    end,
    usage: outcome?.usage,
    accountId: outcome?.accountId ?? "",
    millicredits: toAmount(outcome?.millicredits ?? 0n),
  };
}

export interface Settler extends AsyncDisposable {
  /**
   * Ends a hold. `outcome` undefined: nothing ran. Never throws: what the store does not take now is tried again in the background, and swept
   * at last; then there is no entry to give.
   */
  settle(hold: SettledHold, outcome: Outcome | undefined): Promise<UsageEntry | undefined>;
}

export interface SettlerOptions {
  readonly ledger: Ledger;
  readonly holds: Holds;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Settlements that may wait for the store. Beyond that they are left to the sweep. Default 10,000. */
  readonly pendingMax?: number;
}

const defaultPendingMax = 10_000;
const retryBaseMs = 200;
const retryMaxMs = 10_000;
/** Tries of a settlement that the store refuses. While the store is away it is tried for as long as it takes. */
const refusalsMax = 10;

export function isStoreAway(error: unknown): boolean {
  return error instanceof DrawbridgeError && error.reason === "STATE_UNAVAILABLE";
}

export function createSettler(options: SettlerOptions): Settler {
  const { ledger, holds, clock, log, pendingMax = defaultPendingMax } = options;
  const ending = new AbortController();
  const pending = new Set<Promise<void>>();

  const tryLater = (settlement: Omit<SettleRequest, "now">) => {
    if (pending.size >= pendingMax) {
      log.error({ request_id: settlement.requestId }, "too many settlements wait for the store; left to the sweep");
      holds.remove(settlement.requestId);
      return;
    }
    const later = settleLater(options, settlement, ending.signal).finally(() => pending.delete(later));
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
        tryLater(settlement);
        return undefined;
      }
    },

    async [Symbol.asyncDispose]() {
      ending.abort();
      await Promise.all(pending);
    },
  };
}

/** Until the store takes it. The hold is renewed meanwhile, so that no sweep settles it with less than is known here. */
async function settleLater(
  { ledger, holds, clock, random, log }: SettlerOptions,
  settlement: Omit<SettleRequest, "now">,
  signal: AbortSignal,
): Promise<void> {
  const { requestId } = settlement;
  let refusals = 0;
  for (let failures = 1; !signal.aborted && refusals < refusalsMax; failures += 1) {
    try {
      await clock.sleep(backoffMs(failures, retryBaseMs, retryMaxMs, random), signal);
      await ledger.settle({ ...settlement, now: clock.now() });
      holds.remove(requestId);
      return;
    } catch (error) {
      if (signal.aborted) break;
      if (!isStoreAway(error)) refusals += 1;
      log.warn({ err: error, request_id: requestId, failures }, "settlement failed again");
    }
  }
  holds.remove(requestId);
  log.error({ request_id: requestId }, "the store did not take a settlement; it is left to the sweep");
}
