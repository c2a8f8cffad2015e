// The worker as a process of its own, started by a driver or by hand.
import type { WorkerSpec } from "#gen/drawbridge/v1/account";
import { RegistryService } from "#gen/drawbridge/v1/registry_service";
import { WorkerService } from "#gen/drawbridge/v1/worker_service";
import { systemClock } from "../kit/clock.ts";
import type { Running } from "../kit/lifecycle.ts";
import type { Log } from "../kit/log.ts";
import { newId, systemRandom } from "../kit/random.ts";
import { createDialer } from "../kit/rpc/client.ts";
import { checkInternalToken, internalTokenOnly } from "../kit/rpc/internal-token.ts";
import { dialReplicas } from "../kit/rpc/replicas.ts";
import { mount, startRpcServer } from "../kit/rpc/server.ts";
import type { ListenAddress } from "../kit/settings.ts";
import { version } from "../kit/version.ts";
import { createWorkerApp } from "./app.ts";
import type { WorkerSettings } from "./config.ts";

export interface WorkerProcessOptions {
  readonly spec: WorkerSpec;
  readonly listen: ListenAddress;
  /** How others reach it, where that is not the address that it listens on. */
  readonly advertise?: string | undefined;
  /** Where the registries are: one, or several on one store. */
  readonly registryUrls: readonly string[];
  readonly token: string;
  /** For the agents' homes and working directories. */
  readonly directory: string;
  readonly settings: WorkerSettings;
  readonly log: Log;
}

export async function startWorker(options: WorkerProcessOptions): Promise<Running> {
  const { log, settings: config, token, spec, directory } = options;
  await using starting = new AsyncDisposableStack();
  const dialer = starting.use(createDialer({ token }));
  let address = "";
  const app = starting.use(
    createWorkerApp({
      spec,
      address: () => options.advertise ?? address,
      incarnation: newId("inc"),
      version,
      config,
      clock: systemClock,
      random: systemRandom,
      log,
      directory,
      registry: dialReplicas(RegistryService, {
        dialer,
        addresses: options.registryUrls,
        clock: systemClock,
        // Whatever a worker says there may be said twice.
        repeatable: () => true,
      }),
    }),
  );
  const server = starting.use(
    await startRpcServer({
      listen: options.listen,
      services: [mount(WorkerService, app.service)],
      authorize: internalTokenOnly(token),
      http: (http) => {
        http.addHook("onRequest", async (request) => checkInternalToken(request.headers.authorization, token));
        app.routes(http);
      },
      ready: () => true,
      log,
    }),
  );
  address = server.address;
  await app.start();
  log.info({ address, worker: spec.workerId, accounts: spec.accounts.map((each) => each.id) }, "worker listens");
  const resources = starting.move();
  return {
    ended: app.drained,
    async stop(graceMs) {
      await app.drain(graceMs);
      await server.close(1_000);
      await resources.disposeAsync();
    },
  };
}
