// FleetService: everything in one answer.
import { readAccounts } from "./account-records.ts";
import type { HandlerDependencies } from "./dependencies.ts";
import type { FleetHandlers } from "./fleet-handlers.ts";

export function statusHandlers(dependencies: HandlerDependencies): Pick<FleetHandlers, "getStatus"> {
  const { state, clock, view } = dependencies;
  return {
    async getStatus() {
      const [leader, accounts] = await Promise.all([state.leader.current(clock.now()), readAccounts(dependencies)]);
      return { leader: leader?.owner ?? "", workers: view.list(), accounts };
    },
  };
}
