// Everything on one machine: gateway, scheduler, registry and controller in this process, workers as its children.
import type { AccountSpec, AgentSpec } from "#gen/drawbridge/v1/account";
import { AccessService } from "#gen/drawbridge/v1/access_service";
import { FleetService } from "#gen/drawbridge/v1/fleet_service";
import { RegistryService } from "#gen/drawbridge/v1/registry_service";
import { SchedulerService } from "#gen/drawbridge/v1/scheduler_service";
import { WorkerService } from "#gen/drawbridge/v1/worker_service";
import type { Configuration } from "../../configuration.ts";
import { createControllerApp } from "../../controller/app.ts";
import { openDriver } from "../../controller/drivers/open.ts";
import type { BootstrapResult } from "../../gateway/access/bootstrap.ts";
import { createGatewayApp } from "../../gateway/app.ts";
import { publicServerOptions } from "../../gateway/config.ts";
import { type Clock, systemClock } from "../../kit/clock.ts";
import type { Running } from "../../kit/lifecycle.ts";
import type { Log } from "../../kit/log.ts";
import { systemRandom } from "../../kit/random.ts";
import { createDialer } from "../../kit/rpc/client.ts";
import { internalTokenOnly } from "../../kit/rpc/internal-token.ts";
import { localClient } from "../../kit/rpc/local.ts";
import { mount, startRpcServer } from "../../kit/rpc/server.ts";
import { createRegistryApp } from "../../registry/app.ts";
import { createSchedulerApp } from "../../scheduler/app.ts";
import { openState } from "../../state/open.ts";
import type { State } from "../../state/state.ts";
import { builtInAgents } from "../../worker/profiles/index.ts";
import { startGatewayGroup } from "../serve/gateway-group.ts";
import { createFirstKeys } from "./first-keys.ts";

export interface UpOptions {
  readonly configuration: Configuration;
  readonly accounts: readonly AccountSpec[];
  /** The accounts were found on this machine and not configured: they give way to accounts that were made by command. */
  readonly found: boolean;
  readonly agents: readonly AgentSpec[];
  /** For the store's neighbours: logs, homes of agents, the admin key. */
  readonly directory: string;
  /** The program that workers are started with. */
  readonly entry: string;
  /** The file that the configuration came from; workers read their settings there, too. */
  readonly file: string | undefined;
  readonly internalToken: string;
  readonly log: Log;
  /** Told of keys that were made while it ran, because the store was emptied and theirs are not known. */
  readonly onNewKeys: (access: BootstrapResult) => Promise<void>;
  /** Takes what gateway processes of their own print, by line. */
  readonly onGatewayLine: (line: string) => void;
}

export interface RunningSystem extends Running {
  /** The public address, such as http://127.0.0.1:8080. */
  readonly address: string;
  /** The accounts that run. */
  readonly accounts: readonly AccountSpec[];
  /** Keys that were made or set at this start. */
  readonly access: BootstrapResult;
  /** Names of models that a live worker or an upstream serves now. */
  readyModels(): Promise<string[]>;
}

/** The engine and the gateway, joined in this process. */
async function compose(options: UpOptions, state: State, stack: AsyncDisposableStack, registryUrl: () => string) {
  const { configuration, log, internalToken: token } = options;
  const common = { state, clock: systemClock as Clock, random: systemRandom, log };
  const dialer = stack.use(createDialer({ token }));
  const worker = (address: string) => dialer.client(WorkerService, address, { unreachable: "WORKER_UNREACHABLE" });

  const registryApp = stack.use(createRegistryApp({ ...common, config: configuration.registry }));
  const registry = localClient(RegistryService, registryApp.service);
  const schedulerApp = stack.use(createSchedulerApp({ ...common, config: configuration.scheduler, registry, worker }));
  const driver = stack.use(
    await openDriver({
      settings: configuration.controller,
      entry: options.entry,
      arguments: options.file === undefined ? [] : ["--config", options.file],
      registryUrl,
      token,
      directory: options.directory,
      log,
      clock: systemClock,
      random: systemRandom,
    }),
  );
  const controllerApp = stack.use(
    createControllerApp({
      ...common,
      config: configuration.controller,
      agents: [...options.agents],
      accounts: [...options.accounts],
      profiles: builtInAgents,
      registry,
      worker,
      driver,
    }),
  );
  return { ...common, registryApp, schedulerApp, controllerApp, driver, worker };
}

type Apps = Awaited<ReturnType<typeof compose>>;

/** Where workers register, and where typed clients on this machine find the engine. */
function startInternalServer({ registryApp, schedulerApp, controllerApp }: Apps, options: UpOptions) {
  return startRpcServer({
    listen: options.configuration.internal.listen,
    services: [
      mount(RegistryService, registryApp.service),
      mount(SchedulerService, schedulerApp.service),
      mount(FleetService, controllerApp.service),
    ],
    authorize: internalTokenOnly(options.internalToken),
    ready: () => true,
    log: options.log,
  });
}

/** The one public port: the OpenAI-compatible API, and the typed services with an admin key. In this process, or in several of its own. */
interface Front extends AsyncDisposable {
  readonly address: string;
  /** Once the engine has started. */
  start(): Promise<void>;
  readyModels(): Promise<string[]>;
  stop(graceMs: number): Promise<void>;
}

async function startFront(apps: Apps, options: UpOptions, internalAddress: string): Promise<Front> {
  const { processes } = options.configuration.gateway;
  return processes > 1 ? startFrontGroup(apps, options, internalAddress) : startFrontHere(apps, options);
}

async function startFrontHere(apps: Apps, options: UpOptions): Promise<Front> {
  const { schedulerApp, controllerApp, state, clock, random, log, worker } = apps;
  const { configuration } = options;
  await using starting = new AsyncDisposableStack();
  const gatewayApp = starting.use(
    createGatewayApp({
      state,
      clock,
      random,
      log,
      config: configuration.gateway,
      environment: process.env,
      directory: options.directory,
      scheduler: localClient(SchedulerService, schedulerApp.service),
      worker,
    }),
  );
  const { explain, listModels } = schedulerApp.service;
  const server = starting.use(
    await startRpcServer({
      listen: configuration.listen,
      services: [
        mount(AccessService, gatewayApp.access),
        mount(FleetService, controllerApp.service),
        mount(SchedulerService, { explain, listModels }),
      ],
      authorize: (call) => gatewayApp.authorizeAdmin(call),
      http: (http) => gatewayApp.routes(http),
      ready: () => true,
      log,
      ...publicServerOptions(configuration.gateway),
    }),
  );
  const resources = starting.move();
  return {
    address: server.address,
    start: () => gatewayApp.start(),
    readyModels: () => gatewayApp.readyModels(),
    async stop(graceMs) {
      gatewayApp.drain();
      await server.close(graceMs);
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

/** Gateways in processes of their own reach the engine as any other process does. */
async function startFrontGroup(apps: Apps, options: UpOptions, internalAddress: string): Promise<Front> {
  const { configuration, file, log } = options;
  const { host, port } = configuration.listen;
  const group = await startGatewayGroup({
    processes: configuration.gateway.processes,
    arguments: file === undefined ? [] : ["--config", file],
    environment: {
      DRAWBRIDGE_LISTEN: `${host.includes(":") ? `[${host}]` : host}:${port}`,
      DRAWBRIDGE_STATE: configuration.state,
      DRAWBRIDGE_DIRECTORY: options.directory,
      DRAWBRIDGE_INTERNAL_TOKEN: options.internalToken,
      DRAWBRIDGE_REGISTRY_URL: internalAddress,
      DRAWBRIDGE_SCHEDULER_URL: internalAddress,
      DRAWBRIDGE_CONTROLLER_URL: internalAddress,
    },
    onLine: options.onGatewayLine,
    log,
  });
  return {
    address: configuration.gateway.tls_cert ? group.address.replace(/^http:/, "https:") : group.address,
    // They started by themselves, and tell their clients that the engine is not there as long as it is not.
    start: async () => {},
    async readyModels() {
      const { models } = await localClient(SchedulerService, apps.schedulerApp.service).listModels({});
      const served = models.filter((model) => model.ready).map((model) => model.name);
      return [...served, ...configuration.gateway.channels.flatMap((channel) => Object.keys(channel.models))];
    },
    stop: (graceMs) => group.stop(graceMs),
    [Symbol.asyncDispose]: () => group.stop(0),
  };
}

/** Workers end with their `up`: what a killed one left in the directory is gone. Another worker that lives registers again. */
async function forgetWorkers({ workers: directory }: State): Promise<void> {
  const now = systemClock.now();
  const { workers } = await directory.list(now);
  for (const { id, incarnation } of workers) await directory.remove(id, incarnation, now);
}

export async function startUp(options: UpOptions): Promise<RunningSystem> {
  const { configuration, log } = options;
  await using starting = new AsyncDisposableStack();
  const state = starting.use(await openState(configuration.state, { log, service: "up" }));
  if (configuration.state.startsWith("sqlite:")) await forgetWorkers(state);
  const { secrets } = configuration;
  const keys = starting.use(createFirstKeys({ state, secrets, log, clock: systemClock, onNewKeys: options.onNewKeys }));
  await keys.start();

  let internalAddress = "";
  const stored = await state.accounts.list();
  const accounts = options.found && stored.some((account) => account.managedBy === "api") ? [] : options.accounts;
  const apps = await compose({ ...options, accounts }, state, starting, () => internalAddress);
  const internal = starting.use(await startInternalServer(apps, options));
  internalAddress = internal.address;
  const front = starting.use(await startFront(apps, options, internal.address));

  for (const app of [apps.registryApp, apps.schedulerApp, front, apps.controllerApp]) await app.start();
  log.info({ address: front.address, internal: internal.address }, "up");

  const resources = starting.move();
  return {
    address: front.address,
    access: keys.known(),
    accounts: (await state.accounts.list()).flatMap((account) => account.spec ?? []),
    readyModels: () => front.readyModels(),
    async stop(graceMs) {
      await front.stop(graceMs);
      // Workers tell their last outcomes through the internal server, and take their leave, so it closes after them.
      await apps.controllerApp[Symbol.asyncDispose]();
      await apps.driver[Symbol.asyncDispose]();
      await resources.disposeAsync();
    },
  };
}
