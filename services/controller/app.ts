// The controller, wired: dependencies in, a disposable app out.
import type { Client, ServiceImpl } from "@connectrpc/connect";
import type { AccountSpec, AgentSpec } from "#gen/drawbridge/v1/account";
import type { FleetService } from "#gen/drawbridge/v1/fleet_service";
import type { RegistryService } from "#gen/drawbridge/v1/registry_service";
import type { WorkerService } from "#gen/drawbridge/v1/worker_service";
import type { Clock } from "../kit/clock.ts";
import type { Log } from "../kit/log.ts";
import type { Random } from "../kit/random.ts";
import type { State } from "../state/state.ts";
import { createStoreSetup } from "../state/store-setup.ts";
import { createApply } from "./apply.ts";
import { applyAccounts } from "./apply-accounts.ts";
import type { ControllerSettings } from "./config.ts";
import type { WorkerDriver } from "./drivers/driver.ts";
import { createEvents } from "./events.ts";
import { createFleetMemory } from "./fleet-memory.ts";
import { createHandlers } from "./handlers.ts";
import { createHealthChecks } from "./health.ts";
import { createLeadership } from "./leader.ts";
import { createLeaderIdentity, type LeaderIdentity } from "./leader-identity.ts";
import { createLoop } from "./loop.ts";
import { createReconciler } from "./reconciler.ts";
import { createRetries } from "./retries.ts";
import { createWorkerView } from "./worker-view.ts";

export interface ControllerAppDependencies {
  readonly state: State;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly config: ControllerSettings;
  /** Profiles of the configuration. */
  readonly agents: readonly AgentSpec[];
  /** Accounts of the file, applied at the start and to a store that was emptied; absent or none: the stored ones stay as they are. */
  readonly accounts?: readonly AccountSpec[];
  /** Names of the built-in profiles. */
  readonly profiles: readonly string[];
  readonly registry: Client<typeof RegistryService>;
  readonly worker: (address: string) => Client<typeof WorkerService>;
  /** Its owner disposes it, after the app. */
  readonly driver: WorkerDriver;
  /** Names this controller as a leader. Default: after machine and process, so a process has only one controller. */
  readonly identity?: LeaderIdentity;
}

export interface ControllerApp extends AsyncDisposable {
  readonly service: ServiceImpl<typeof FleetService>;
  /** Applies the file's accounts, and begins to lead and to act. */
  start(): Promise<void>;
}

export function createControllerApp(dependencies: ControllerAppDependencies): ControllerApp {
  const { state, clock, random, config: settings, driver, registry, worker, agents } = dependencies;
  const log = dependencies.log.child({ part: "controller" });
  const resources = new AsyncDisposableStack();
  const profiles = [...dependencies.profiles, ...agents.map(({ name }) => name)];

  const events = resources.use(createEvents({ store: state.events, clock, log }));
  const view = resources.use(createWorkerView({ registry, clock, random, log }));
  const leadership = resources.use(
    createLeadership({
      lock: state.leader,
      ...(dependencies.identity ?? createLeaderIdentity()),
      leaseMs: settings.leader_lease,
      renewMs: settings.leader_renew,
      retryMs: settings.leader_retry,
      clock,
      random,
      log,
    }),
  );
  const setup = resources.use(createStoreSetup({ state, setUp: applyFile, clock, log }));
  const memory = createFleetMemory();
  const health = createHealthChecks({ worker, clock, timeoutMs: settings.health_timeout });
  const retries = createRetries({
    clock,
    random,
    baseMs: settings.backoff,
    maxMs: settings.backoff_max,
    stableMs: settings.stable_after,
  });
  const apply = createApply({
    driver,
    registry,
    worker,
    health,
    agents,
    view,
    memory,
    retries,
    events,
    clock,
    drainGraceMs: settings.drain_grace,
  });
  const parts = { state, setup, driver, view, memory, retries, events, settings, clock, log };
  const reconciler = createReconciler({ ...parts, agents, health, apply });
  const loop = resources.use(createLoop({ ...parts, health, leadership, reconciler, registry }));

  async function applyFile(): Promise<void> {
    const { accounts = [] } = dependencies;
    if (accounts.length === 0) return;
    const { skipped } = await applyAccounts(accounts, { state, clock, events, profiles, conflicts: "skip" });
    if (skipped.length === 0) return;
    log.error({ accounts: skipped }, "accounts of the file are managed through the API and stay as they are");
  }

  return {
    service: createHandlers({ state, clock, events, loop, view, worker, profiles }),
    async start() {
      await setup.start();
      if (resources.disposed) return;
      loop.start();
      view.start();
      await leadership.start();
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}
