// `drawbridge gateway|scheduler|registry|controller|worker`: one service as a process of its own.
import { hostname } from "node:os";
import { resolve } from "node:path";
import { create, fromJsonString } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { type WorkerSpec, WorkerSpecSchema } from "#gen/drawbridge/v1/account";
import type { Configuration } from "../../configuration.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { Running } from "../../kit/lifecycle.ts";
import type { Log } from "../../kit/log.ts";
import { type ListenAddress, listenAddress, parseSettings } from "../../kit/settings.ts";

/** What every service command gets. */
interface Context {
  readonly configuration: Configuration;
  readonly token: string;
  readonly directory: string;
  readonly log: Log;
}

interface ServeFlags {
  readonly config?: string;
  readonly listen?: string;
  readonly state?: string;
  readonly grace?: string;
  readonly account?: string[];
}

export function registerServe(program: Command): void {
  const service = (name: string, purpose: string) =>
    program
      .command(name)
      .summary(purpose)
      .description(`${purpose} Settings come from drawbridge.yaml, then the environment, then flags.`)
      .option("--config <file>", "configuration file (default: drawbridge.yaml, if it is there)")
      .option("--listen <address>", "where to listen, such as 127.0.0.1:7070")
      .option("--grace <duration>", "time for work in flight when stopping (default: 30s)");
  const stateful = (name: string, purpose: string) =>
    service(name, purpose).option("--state <url>", "the store, such as sqlite:.drawbridge/state.db");

  stateful("gateway", "Run the gateway: the OpenAI-compatible API, keys, limits and money.").action(runGateway);
  stateful("scheduler", "Run a scheduler: which account takes a prompt.").action(runScheduler);
  stateful("registry", "Run a registry: which workers are alive.").action(runRegistry);
  stateful("controller", "Run a controller: desired accounts become running workers.").action(runController);
  service("worker", "Run a worker: pools of agent processes. Drivers start it; by hand, name its accounts.")
    .option("--account <id...>", "accounts of the configuration to serve (default: all)")
    .action(runWorker);
}

async function run(
  name: string,
  flags: ServeFlags,
  start: (context: Context) => Promise<Running>,
  followParent = false,
): Promise<void> {
  const [{ loadConfiguration }, { runUntilStopped }, { createLog }] = await Promise.all([
    import("../../configuration.ts"),
    import("../../kit/lifecycle.ts"),
    import("../../kit/log.ts"),
  ]);
  const { configuration } = await loadConfiguration({ file: flags.config, flags, environment: process.env });
  const token = configuration.secrets.internalToken;
  if (token === undefined) {
    throw new DrawbridgeError(
      "INVALID_ARGUMENT",
      "Services that run by themselves share a token: set DRAWBRIDGE_INTERNAL_TOKEN to the same long random value for each of them.",
    );
  }
  const log = createLog({ name, level: configuration.log.level });
  const directory = resolve(configuration.directory);
  await runUntilStopped({
    start: () => start({ configuration, token, directory, log }),
    graceMs: configuration.grace,
    log,
    followParent,
  });
}

async function runGateway(flags: ServeFlags): Promise<void> {
  const [{ startGateway }, { startGatewayGroup }, { default: cluster }] = await Promise.all([
    import("../../gateway/main.ts"),
    import("./gateway-group.ts"),
    import("node:cluster"),
  ]);
  await run("gateway", flags, ({ configuration, token, directory, log }) => {
    const { processes } = configuration.gateway;
    if (processes > 1 && cluster.isPrimary) {
      return startGatewayGroup({ processes, arguments: process.argv.slice(3), environment: {}, log });
    }
    return startGateway({
      listen: configuration.listen,
      state: configuration.state,
      schedulerUrls: configuration.internal.scheduler_url,
      controllerUrls: configuration.internal.controller_url,
      token,
      settings: configuration.gateway,
      directory,
      keys: configuration.secrets,
      log,
    });
  });
  // The channel to the first process of a group would keep this one alive.
  if (cluster.isWorker) process.disconnect();
}

async function runScheduler(flags: ServeFlags): Promise<void> {
  const { startScheduler } = await import("../../scheduler/main.ts");
  await run("scheduler", flags, ({ configuration, token, log }) =>
    startScheduler({
      listen: internalListen(flags, configuration.internal.scheduler_url[0]),
      state: configuration.state,
      registryUrls: configuration.internal.registry_url,
      token,
      settings: configuration.scheduler,
      log,
    }),
  );
}

async function runRegistry(flags: ServeFlags): Promise<void> {
  const { startRegistry } = await import("../../registry/main.ts");
  await run("registry", flags, ({ configuration, token, log }) =>
    startRegistry({
      listen: internalListen(flags, configuration.internal.registry_url[0]),
      state: configuration.state,
      token,
      settings: configuration.registry,
      log,
    }),
  );
}

async function runController(flags: ServeFlags): Promise<void> {
  const [{ startController }, { builtInAgents }, { entry }] = await Promise.all([
    import("../../controller/main.ts"),
    import("../../worker/profiles/index.ts"),
    import("../entry.ts"),
  ]);
  await run("controller", flags, ({ configuration, token, directory, log }) =>
    startController({
      listen: internalListen(flags, configuration.internal.controller_url[0]),
      state: configuration.state,
      registryUrls: configuration.internal.registry_url,
      token,
      entry,
      workerArguments: flags.config === undefined ? [] : ["--config", resolve(flags.config)],
      directory,
      accounts: configuration.accounts,
      agents: configuration.agents,
      profiles: builtInAgents,
      settings: configuration.controller,
      log,
    }),
  );
}

async function runWorker(flags: ServeFlags): Promise<void> {
  const { startWorker } = await import("../../worker/main.ts");
  // A driver's worker gets its specification by environment. A child of the controller ends with it; a container or a Pod does not.
  const handed = process.env["DRAWBRIDGE_WORKER_SPEC"];
  const detached = process.env["DRAWBRIDGE_DETACHED"] === "1";
  await run(
    "worker",
    flags,
    ({ configuration, token, directory, log }) =>
      startWorker({
        spec: handed === undefined ? specOf(configuration, flags) : parseSpec(handed),
        listen:
          flags.listen === undefined
            ? { host: configuration.internal.worker_host, port: 0 }
            : parseListen(flags.listen),
        advertise: configuration.internal.advertise,
        registryUrls: configuration.internal.registry_url,
        token,
        directory,
        settings: configuration.worker,
        log,
      }),
    handed !== undefined && !detached,
  );
}

function parseSpec(json: string): WorkerSpec {
  try {
    return fromJsonString(WorkerSpecSchema, json);
  } catch (error) {
    throw new DrawbridgeError("INVALID_ARGUMENT", "DRAWBRIDGE_WORKER_SPEC is no WorkerSpec in JSON.", { cause: error });
  }
}

/** A worker that is started by hand serves accounts of the configuration. */
function specOf(configuration: Configuration, flags: ServeFlags): WorkerSpec {
  const wanted = flags.account ?? configuration.accounts.map((account) => account.id);
  const accounts = wanted.map((id) => {
    const account = configuration.accounts.find((each) => each.id === id);
    if (account) return account;
    throw new DrawbridgeError("INVALID_ARGUMENT", `The configuration has no account "${id}".`);
  });
  if (accounts.length === 0) {
    throw new DrawbridgeError("INVALID_ARGUMENT", "The configuration has no accounts for this worker to serve.");
  }
  return create(WorkerSpecSchema, {
    workerId: `${hostname()}-${accounts.map((account) => account.id).join("+")}`.slice(0, 128),
    accounts,
    agents: configuration.agents,
  });
}

/** The address that `--listen` names, else the one in the URL by which others find the service. */
function internalListen(flags: ServeFlags, url: string): ListenAddress {
  if (flags.listen !== undefined) return parseListen(flags.listen);
  const { hostname: host, port } = new URL(url);
  return { host: host.replace(/^\[|\]$/g, ""), port: Number(port) };
}

function parseListen(text: string): ListenAddress {
  return parseSettings(listenAddress(), text, "--listen");
}
