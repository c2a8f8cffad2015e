// The controller as a process of its own.
import type { AccountSpec, AgentSpec } from "#gen/drawbridge/v1/account";
import { FleetService } from "#gen/drawbridge/v1/fleet_service";
import { RegistryService } from "#gen/drawbridge/v1/registry_service";
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
import { createControllerApp } from "./app.ts";
import type { ControllerSettings } from "./config.ts";
import { openDriver } from "./drivers/open.ts";

export interface ControllerProcessOptions {
  readonly listen: ListenAddress;
  /** The store, such as sqlite:.drawbridge/state.db. */
  readonly state: string;
  /** Where the registries are: one, or several on one store. */
  readonly registryUrls: readonly string[];
  readonly token: string;
  /** The program that the process driver starts workers with. */
  readonly entry: string;
  /** Further arguments of workers, such as the configuration file's. */
  readonly workerArguments: readonly string[];
  /** For logs and agents' homes. */
  readonly directory: string;
  readonly accounts: readonly AccountSpec[];
  readonly agents: readonly AgentSpec[];
  /** Names of the built-in agent profiles. */
  readonly profiles: readonly string[];
  readonly settings: ControllerSettings;
  readonly log: Log;
}

export async function startController(options: ControllerProcessOptions): Promise<Running> {
  const { log, settings: config, token, directory, registryUrls } = options;
  await using starting = new AsyncDisposableStack();
  const state = starting.use(await openState(options.state, { log, service: "controller" }));
  const dialer = starting.use(createDialer({ token }));
  const driver = starting.use(
    await openDriver({
      settings: config,
      entry: options.entry,
      arguments: options.workerArguments,
      registryUrl: () => registryUrls.join(","),
      token,
      directory,
      log,
      clock: systemClock,
      random: systemRandom,
    }),
  );
  const app = starting.use(
    createControllerApp({
      state,
      clock: systemClock,
      random: systemRandom,
      log,
      config,
      agents: [...options.agents],
      accounts: [...options.accounts],
      profiles: options.profiles,
      registry: dialReplicas(RegistryService, {
        dialer,
        addresses: registryUrls,
        clock: systemClock,
        // It watches, and takes out workers that are gone: once or twice is the same.
        repeatable: () => true,
      }),
      worker: (address) => dialer.client(WorkerService, address, { unreachable: "WORKER_UNREACHABLE" }),
      driver,
    }),
  );
  const server = starting.use(
    await startRpcServer({
      listen: options.listen,
      services: [mount(FleetService, app.service)],
      authorize: internalTokenOnly(token),
      ready: () => true,
      log,
    }),
  );
  await app.start();
  log.info({ address: server.address }, "controller listens");
  const resources = starting.move();
  return {
    async stop(graceMs) {
      // The lead first, so that another controller has it while calls here finish.
      await app[Symbol.asyncDispose]();
      await server.close(graceMs);
      await resources.disposeAsync();
    },
  };
}
