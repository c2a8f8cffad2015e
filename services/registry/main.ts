// The registry as a process of its own.
import { RegistryService } from "#gen/drawbridge/v1/registry_service";
import { systemClock } from "../kit/clock.ts";
import type { Running } from "../kit/lifecycle.ts";
import type { Log } from "../kit/log.ts";
import { internalTokenOnly } from "../kit/rpc/internal-token.ts";
import { mount, startRpcServer } from "../kit/rpc/server.ts";
import type { ListenAddress } from "../kit/settings.ts";
import { openState } from "../state/open.ts";
import { createRegistryApp } from "./app.ts";
import type { RegistrySettings } from "./config.ts";

export interface RegistryProcessOptions {
  readonly listen: ListenAddress;
  /** The store, such as sqlite:.drawbridge/state.db. */
  readonly state: string;
  readonly token: string;
  readonly settings: RegistrySettings;
  readonly log: Log;
}

export async function startRegistry(options: RegistryProcessOptions): Promise<Running> {
  const { log, settings: config, token } = options;
  await using starting = new AsyncDisposableStack();
  const state = starting.use(await openState(options.state, { log, service: "registry" }));
  const app = starting.use(createRegistryApp({ state, clock: systemClock, log, config }));
  const server = starting.use(
    await startRpcServer({
      listen: options.listen,
      services: [mount(RegistryService, app.service)],
      authorize: internalTokenOnly(token),
      ready: () => true,
      log,
    }),
  );
  await app.start();
  log.info({ address: server.address }, "registry listens");
  const resources = starting.move();
  return {
    async stop(graceMs) {
      await server.close(graceMs);
      await resources.disposeAsync();
    },
  };
}
