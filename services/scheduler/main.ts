// The scheduler as a process of its own.
import { RegistryService } from "#gen/drawbridge/v1/registry_service";
import { SchedulerService } from "#gen/drawbridge/v1/scheduler_service";
import { WorkerService } from "#gen/drawbridge/v1/worker_service";
import { systemClock } from "../kit/clock.ts";
import type { Running } from "../kit/lifecycle.ts";
import type { Log } from "../kit/log.ts";
import { systemRandom } from "../kit/random.ts";
import { createDialer } from "../kit/rpc/client.ts";
import { internalTokenOnly } from "../kit/rpc/internal-token.ts";
import { dialReplicas } from "../kit/rpc/replicas.ts";
import { mount, startRpcServer } from "../kit/rpc/server.ts";
import type { ListenAddress } from "../kit/settings.ts";
import { openState } from "../state/open.ts";
import { createSchedulerApp } from "./app.ts";
import type { SchedulerSettings } from "./config.ts";

export interface SchedulerProcessOptions {
  readonly listen: ListenAddress;
  /** The store, such as sqlite:.drawbridge/state.db. */
  readonly state: string;
  /** Where the registries are: one, or several on one store. */
  readonly registryUrls: readonly string[];
  readonly token: string;
  readonly settings: SchedulerSettings;
  readonly log: Log;
}

export async function startScheduler(options: SchedulerProcessOptions): Promise<Running> {
  const { log, settings: config, token } = options;
  await using starting = new AsyncDisposableStack();
  const state = starting.use(await openState(options.state, { log, service: "scheduler" }));
  const dialer = starting.use(createDialer({ token }));
  const app = starting.use(
    createSchedulerApp({
      state,
      clock: systemClock,
      random: systemRandom,
      log,
      config,
      registry: dialReplicas(RegistryService, { dialer, addresses: options.registryUrls, clock: systemClock }),
      worker: (address) => dialer.client(WorkerService, address, { unreachable: "WORKER_UNREACHABLE" }),
    }),
  );
  const server = starting.use(
    await startRpcServer({
      listen: options.listen,
      services: [mount(SchedulerService, app.service)],
      authorize: internalTokenOnly(token),
      ready: () => true,
      log,
    }),
  );
  await app.start();
  log.info({ address: server.address }, "scheduler listens");
  const resources = starting.move();
  return {
    async stop(graceMs) {
      await server.close(graceMs);
      await resources.disposeAsync();
    },
  };
}
