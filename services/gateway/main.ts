// The gateway as a process of its own.
import { AccessService } from "#gen/drawbridge/v1/access_service";
import { FleetService } from "#gen/drawbridge/v1/fleet_service";
import { SchedulerService } from "#gen/drawbridge/v1/scheduler_service";
import { WorkerService } from "#gen/drawbridge/v1/worker_service";
import { joinSchedulers } from "../client/schedulers.ts";
import { systemClock } from "../kit/clock.ts";
import type { Running } from "../kit/lifecycle.ts";
import type { Log } from "../kit/log.ts";
import { systemRandom } from "../kit/random.ts";
import { createDialer } from "../kit/rpc/client.ts";
import { forwardTo } from "../kit/rpc/forward.ts";
import { dialReplicas } from "../kit/rpc/replicas.ts";
import { mount, startRpcServer } from "../kit/rpc/server.ts";
import type { ListenAddress } from "../kit/settings.ts";
import { openState } from "../state/open.ts";
import { ensureAccess } from "./access/bootstrap.ts";
import { createGatewayApp } from "./app.ts";
import { type GatewaySettings, publicServerOptions } from "./config.ts";

export interface GatewayProcessOptions {
  readonly listen: ListenAddress;
  /** The store, such as sqlite:.drawbridge/state.db. */
  readonly state: string;
  /** Where the schedulers are: one, or several on one store. */
  readonly schedulerUrls: readonly string[];
  /** Where the controllers are, likewise. */
  readonly controllerUrls: readonly string[];
  readonly token: string;
  readonly settings: GatewaySettings;
  /** For what has to outlive the process. */
  readonly directory: string;
  /** Keys that the environment sets, ensured at every start. */
  readonly keys: { readonly apiKey: string | undefined; readonly adminKey: string | undefined };
  readonly log: Log;
}

export async function startGateway(options: GatewayProcessOptions): Promise<Running> {
  const { log, settings: config, token } = options;
  await using starting = new AsyncDisposableStack();
  const state = starting.use(await openState(options.state, { log, service: "gateway" }));
  const { keyPepper } = config;
  const bootstrap = () =>
    ensureAccess({ state, settings: { ...options.keys, keyPepper }, make: false, now: systemClock.now() });
  // Before it listens: a key that is not there yet would be refused for good.
  await bootstrap();
  const dialer = starting.use(createDialer({ token }));
  const schedulers = options.schedulerUrls.map((url) =>
    dialer.client(SchedulerService, url, { unreachable: "STATE_UNAVAILABLE" }),
  );
  const scheduler = joinSchedulers(schedulers, systemClock);
  const fleet = dialReplicas(FleetService, { dialer, addresses: options.controllerUrls, clock: systemClock });
  const app = starting.use(
    createGatewayApp({
      state,
      clock: systemClock,
      random: systemRandom,
      log,
      config,
      scheduler,
      environment: process.env,
      bootstrap,
      directory: options.directory,
      worker: (address) => dialer.client(WorkerService, address, { unreachable: "WORKER_UNREACHABLE" }),
    }),
  );
  const { explain, listModels } = forwardTo(SchedulerService, scheduler);
  const server = starting.use(
    await startRpcServer({
      listen: options.listen,
      services: [
        mount(AccessService, app.access),
        mount(FleetService, forwardTo(FleetService, fleet)),
        mount(SchedulerService, { explain, listModels }),
      ],
      authorize: (call) => app.authorizeAdmin(call),
      http: (http) => app.routes(http),
      ready: () => true,
      log,
      ...publicServerOptions(config),
    }),
  );
  await app.start();
  log.info({ address: server.address }, "gateway listens");
  const resources = starting.move();
  return {
    async stop(graceMs) {
      app.drain();
      await server.close(graceMs);
      await resources.disposeAsync();
    },
  };
}
