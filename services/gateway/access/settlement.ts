// What the ledger is told at the end of a hold, whoever ends it: the gateway that took it, or the sweep.
import type { Price } from "#gen/drawbridge/v1/access_service";
import type { End, Outcome } from "#gen/drawbridge/v1/usage";
import type { SettleRequest } from "../../state/state.ts";
import { dueMicros, toAmount } from "./money.ts";

/** What is settled. */
export interface SettledHold {
  readonly userId: string;
  readonly requestId: string;
  /** As frozen at the admission. */
  readonly price: Price | undefined;
}

/** What the ledger is told, but for the time at which it takes it. */
export type Settlement = Omit<SettleRequest, "now">;

/** What the ledger is told of a hold whose request ended so. Without an outcome nothing is paid, and it ended as `endWithout` says. */
export function settlementOf(hold: SettledHold, outcome: Outcome | undefined, endWithout: End): Settlement {
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
