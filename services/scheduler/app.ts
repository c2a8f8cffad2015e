// The scheduler: dependencies in, a disposable app out.
import type { Client, ServiceImpl } from "@connectrpc/connect";
import type { RegistryService } from "#gen/drawbridge/v1/registry_service";
import { SchedulerService } from "#gen/drawbridge/v1/scheduler_service";
import { createFleetClient } from "../client/client.ts";
import type { FleetClient, WorkerCalls } from "../client/fleet-client.ts";
import type { Clock } from "../kit/clock.ts";
import type { Log } from "../kit/log.ts";
import type { Random } from "../kit/random.ts";
import { localClient } from "../kit/rpc/local.ts";
import type { State } from "../state/state.ts";
import { createBreakers } from "./breakers.ts";
import type { SchedulerSettings } from "./config.ts";
import { followAccounts, followWorkers, refreshAccounts } from "./feed.ts";
import { createGivenLeases } from "./given-leases.ts";
import { createHandlers } from "./handlers.ts";
import { keepSweeping } from "./settle.ts";
import { createView } from "./view.ts";

export interface SchedulerDependencies {
  readonly state: State;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly config: SchedulerSettings;
  readonly registry: Pick<Client<typeof RegistryService>, "watchWorkers">;
  /** The worker at an address, for Dispatch. */
  readonly worker: (address: string) => WorkerCalls;
}

export interface SchedulerApp extends AsyncDisposable {
  readonly service: ServiceImpl<typeof SchedulerService>;
  /** Fills the view, and keeps it true. */
  start(): Promise<void>;
}

export function createSchedulerApp(dependencies: SchedulerDependencies): SchedulerApp {
  const { state, clock, random, log, config, registry, worker } = dependencies;
  const ending = new AbortController();
  const view = createView();
  const breakers = createBreakers({ store: state.breakers, view, clock, random, log, policy: config.breaker });
  const given = createGivenLeases();
  const parts = { view, state, leases: state.leases, breakers, given, clock, random, log, config };
  const service = createHandlers({ ...parts, fleet: () => fleet });
  const scheduler = localClient(SchedulerService, service);
  const fleet: FleetClient = createFleetClient({ scheduler, worker, clock, log });

  const feed = { view, state, registry, clock, random, log, refreshMs: config.refresh_interval, signal: ending.signal };
  let running: Promise<unknown> = Promise.resolve();
  return {
    service,
    async start() {
      await refreshAccounts(feed);
      running = Promise.all([followAccounts(feed), followWorkers(feed), keepSweeping(parts, ending.signal)]);
    },
    async [Symbol.asyncDispose]() {
      ending.abort();
      await running;
    },
  };
}
