// The scheduler: dependencies in, a disposable app out.
import type { Client, ServiceImpl } from "@connectrpc/connect";
import type { RegistryService } from "#gen/drawbridge/v1/registry_service";
import { SchedulerService } from "#gen/drawbridge/v1/scheduler_service";
import { createFleetClient } from "../client/client.ts";
import { fleetClientSettings } from "../client/config.ts";
import type { FleetClient, WorkerCalls } from "../client/fleet-client.ts";
import type { Clock } from "../kit/clock.ts";
import type { Log } from "../kit/log.ts";
import { newId, type Random } from "../kit/random.ts";
import { localClient } from "../kit/rpc/local.ts";
import type { State } from "../state/state.ts";
import { createBreakers } from "./breaker/breakers.ts";
import type { SchedulerSettings } from "./config.ts";
import { createDecisions } from "./explain/decisions.ts";
import { followAccounts, followWorkers, refreshAccounts } from "./fleet/feed.ts";
import { createView } from "./fleet/view.ts";
import { createGivenLeases } from "./given-leases.ts";
import { createHandlers } from "./handlers.ts";
import { createDemand } from "./queue/demand.ts";
import { createWaitingRooms } from "./queue/waiting-rooms.ts";
import { keepSweeping } from "./settle.ts";

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
  const { signal } = ending;
  const resources = new AsyncDisposableStack();
  const view = resources.use(createView({ settings: config, clock, random }));
  const breakers = createBreakers({ store: state.breakers, view, clock, random, log, policy: config.breaker });
  const given = createGivenLeases();
  const decisions = createDecisions({
    view,
    clock,
    requestsMax: config.decisions_kept,
    candidatesMax: config.decision_candidates,
  });
  let wanted = Promise.withResolvers<void>();
  const refresh = () => wanted.resolve();
  const claims = { view, leases: state.leases, breakers, clock, config, refresh };
  const rooms = resources.use(
    createWaitingRooms({
      ...claims,
      random,
      log,
      waitingElsewhere: (model) => demand.elsewhere(model),
      onCount: (model) => demand.changed(model),
    }),
  );
  const demand = createDemand({
    store: state.demand,
    schedulerId: newId("sch"),
    models: () => rooms.models(),
    waiting: (model) => rooms.waiting(model),
    intervalMs: config.queue.demand_interval,
    clock,
    log,
    signal,
  });
  view.onRoom((model) => rooms.wake(model));
  const settling = { view, state, breakers, given, clock, log, config };
  const service = createHandlers({ ...claims, ...settling, decisions, rooms, fleet: () => fleet });
  const scheduler = localClient(SchedulerService, service);
  const fleet: FleetClient = resources.use(
    createFleetClient({ scheduler, worker, clock, random, log, settings: fleetClientSettings(config.retry) }),
  );

  const feed = {
    view,
    state,
    registry,
    clock,
    random,
    log,
    refreshMs: config.refresh_interval,
    onRefresh: () => rooms.review(),
    wanted() {
      wanted = Promise.withResolvers();
      return wanted.promise;
    },
    signal,
  };
  let running: Promise<unknown> = Promise.resolve();
  return {
    service,
    async start() {
      await refreshAccounts(feed);
      running = Promise.all([followAccounts(feed), followWorkers(feed), keepSweeping(settling, signal), demand.run()]);
    },
    async [Symbol.asyncDispose]() {
      ending.abort();
      await resources.disposeAsync();
      await running;
    },
  };
}
