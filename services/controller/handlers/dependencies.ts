// What the handlers of FleetService work with.
import type { Client } from "@connectrpc/connect";
import type { WorkerService } from "#gen/drawbridge/v1/worker_service";
import type { Clock } from "../../kit/clock.ts";
import type { State } from "../../state/state.ts";
import type { Events } from "../events.ts";
import type { Loop } from "../loop.ts";
import type { WorkerView } from "../worker-view.ts";

export interface HandlerDependencies {
  readonly state: State;
  readonly clock: Clock;
  readonly events: Events;
  readonly loop: Loop;
  readonly view: WorkerView;
  readonly worker: (address: string) => Client<typeof WorkerService>;
  /** Names of agents that accounts can have. */
  readonly profiles: readonly string[];
}
