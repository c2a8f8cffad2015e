// FleetService: credits. The numbers of the contract are at most 2^53-1, so they are exact here.
import { newId } from "../../kit/random.ts";
import type { HandlerDependencies } from "./dependencies.ts";
import type { FleetHandlers } from "./fleet-handlers.ts";

export function creditHandlers({
  state,
  clock,
  events,
}: HandlerDependencies): Pick<FleetHandlers, "grantCredits" | "setCredits"> {
  return {
    async grantCredits({ accountId, millicredits, grantId }) {
      const credits = await state.accounts.grant(
        accountId,
        grantId || newId("grant"),
        Number(millicredits),
        clock.now(),
      );
      events.record("CreditsGranted", `${amount(millicredits)} credits were granted.`, { accountId });
      return { credits };
    },

    async setCredits({ accountId, available }) {
      const credits = await state.accounts.setAvailable(accountId, Number(available), clock.now());
      events.record("CreditsSet", `The available credits were set to ${amount(available)}.`, { accountId });
      return { credits };
    },
  };
}

function amount(millicredits: bigint): string {
  return (Number(millicredits) / 1_000).toString();
}
