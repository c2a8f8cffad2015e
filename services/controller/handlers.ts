// FleetService. Each handler translates the wire to the domain and back; the parts are in handlers/.
import { accountHandlers } from "./handlers/accounts.ts";
import { breakerHandlers } from "./handlers/breakers.ts";
import { creditHandlers } from "./handlers/credits.ts";
import type { HandlerDependencies } from "./handlers/dependencies.ts";
import type { FleetHandlers } from "./handlers/fleet-handlers.ts";
import { reconcileHandlers } from "./handlers/reconcile.ts";
import { statusHandlers } from "./handlers/status.ts";
import { watchHandlers } from "./handlers/watch-events.ts";

export function createHandlers(dependencies: HandlerDependencies): FleetHandlers {
  return {
    ...accountHandlers(dependencies),
    ...creditHandlers(dependencies),
    ...breakerHandlers(dependencies),
    ...reconcileHandlers(dependencies),
    ...statusHandlers(dependencies),
    ...watchHandlers(dependencies),
  };
}
