// What a gateway that died left behind: holds are settled from the recorded outcome, or released when they have ended.
import { End, type Outcome } from "#gen/drawbridge/v1/usage";
import type { Clock } from "../../kit/clock.ts";
import type { Log } from "../../kit/log.ts";
import type { HoldRecord, State } from "../../state/state.ts";
import { dueMicros } from "./money.ts";

export interface SweepOptions {
  readonly state: Pick<State, "ledger" | "outcomes">;
  readonly clock: Clock;
  readonly log: Log;
  readonly intervalMs: number;
}

/** Holds that one round takes. */
const sweepLimit = 1_000;

/** Settles holds whose time has ended. How many. */
export async function sweepHolds({ state, clock, log }: SweepOptions): Promise<number> {
  const now = clock.now();
  const expired = await state.ledger.expired(now, sweepLimit);
  for (const hold of expired) {
    const outcome = await state.outcomes.finalOf(hold.requestId, now);
    const result = await state.ledger.settle(settlementOf(hold, outcome, now));
    if (result?.settled) {
      log.warn({ request_id: hold.requestId, user: hold.userId, outcome: outcome !== undefined }, "hold was swept");
    }
  }
  return expired.length;
}

function settlementOf(hold: HoldRecord, outcome: Outcome | undefined, now: number) {
  const end = outcome?.end ?? End.EXPIRED;
  return {
    requestId: hold.requestId,
    userId: hold.userId,
    costMicros: dueMicros(end, outcome?.usage, hold.price),
    end,
    usage: outcome?.usage,
    accountId: outcome?.accountId ?? "",
    millicredits: Number(outcome?.millicredits ?? 0n),
    now,
  };
}

/** Sweeps until the signal is aborted. Any number of gateways may do so. */
export async function keepSweeping(options: SweepOptions, signal: AbortSignal): Promise<void> {
  const { clock, log, intervalMs } = options;
  while (!signal.aborted) {
    try {
      await sweepHolds(options);
      await clock.sleep(intervalMs, signal);
    } catch (error) {
      if (signal.aborted) return;
      log.error({ err: error }, "holds could not be swept");
      await clock.sleep(intervalMs, signal).catch(() => undefined);
    }
  }
}
