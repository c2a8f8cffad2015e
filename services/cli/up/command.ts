// `drawbridge up`: everything on one machine.
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { create } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { type AccountSpec, AccountSpecSchema } from "#gen/drawbridge/v1/account";
import type { Configuration } from "../../configuration.ts";
import type { BootstrapResult } from "../../gateway/access/bootstrap.ts";
import type { Log } from "../../kit/log.ts";
import type { DetectableAgent } from "../../worker/profiles/index.ts";
import type { RunningSystem } from "./start.ts";

interface UpFlags {
  readonly config?: string;
  readonly listen?: string;
  readonly state?: string;
  readonly grace?: string;
}

/** The log's size on disk is twice this. */
const logBytesMax = 16 << 20;
/** How often a start looks whether a model can be served, and after how long it stops looking. */
const readyPollMs = 100;
const readyWaitMs = 180_000;

export function registerUp(program: Command): void {
  program
    .command("up", { isDefault: false })
    .summary("run everything on this machine")
    .description(
      "Runs gateway, scheduler, registry and controller in one process and workers as its children, with the embedded store under .drawbridge/. " +
        "Without a configuration it uses the agents that it finds on this machine, and the built-in demo agent where there is none.",
    )
    .option("--config <file>", "configuration file (default: drawbridge.yaml, if it is there)")
    .option("--listen <address>", "the public address (default: 127.0.0.1:8080)")
    .option("--state <url>", "the store (default: sqlite:.drawbridge/state.db)")
    .option("--grace <duration>", "when stopping, time for streams in flight (default: 30s)")
    .action(runUp);
}

async function runUp(flags: UpFlags): Promise<void> {
  const [{ loadConfiguration }, { runUntilStopped }, { startUp }, { entry }, { newId }] = await Promise.all([
    import("../../configuration.ts"),
    import("../../kit/lifecycle.ts"),
    import("./start.ts"),
    import("../entry.ts"),
    import("../../kit/random.ts"),
  ]);
  const { configuration, file } = await loadConfiguration({ file: flags.config, flags, environment: process.env });
  const directory = resolve(configuration.directory);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const logFile = join(directory, "logs", "drawbridge.log");
  const adminKeyFile = join(directory, "admin-key");
  const { log, writeLine } = await openLog(configuration, logFile);
  const { accounts, demo } = await chooseAccounts(configuration);

  await runUntilStopped({
    graceMs: configuration.grace,
    log,
    start: async (signal) => {
      const system = await startUp({
        configuration,
        accounts,
        found: configuration.accounts.length === 0,
        agents: configuration.agents,
        directory,
        entry,
        file,
        internalToken: configuration.secrets.internalToken ?? newId("internal"),
        log,
        onNewKeys: (access) => announceKeys(access, adminKeyFile),
        onGatewayLine: writeLine,
      });
      await announce({ system, configuration, demo, file, adminKeyFile, logFile });
      void sayWhenReady(system, signal);
      return {
        stop: (graceMs) => {
          if (graceMs > 0) process.stdout.write("Stopping: streams in flight finish first. Ctrl-C again ends them.\n");
          return system.stop(graceMs);
        },
      };
    },
  });
}

/** Everything goes to the file; what an operator must see goes to standard error too. */
async function openLog(
  configuration: Configuration,
  path: string,
): Promise<{ readonly log: Log; readonly writeLine: (line: string) => void }> {
  const [{ createLog }, { openRotatingFile }, { pino }] = await Promise.all([
    import("../../kit/log.ts"),
    import("../../kit/rotating-file.ts"),
    import("pino"),
  ]);
  const { level } = configuration.log;
  const file = openRotatingFile(path, logBytesMax);
  const destination = pino.multistream([
    { level: level === "silent" ? "fatal" : level, stream: { write: (line: string) => file.write(line) } },
    { level: "error", stream: process.stderr },
  ]);
  return {
    log: createLog({ name: "up", level, destination }),
    writeLine: (line) => file.write(`${line}\n`),
  };
}

/** The configured accounts, else one for each agent of this machine, else the demo agent where there is no upstream either. */
async function chooseAccounts(
  configuration: Configuration,
): Promise<{ readonly accounts: readonly AccountSpec[]; readonly demo: boolean }> {
  if (configuration.accounts.length > 0) return { accounts: configuration.accounts, demo: false };
  const [{ detectableAgents, demoAgent }, { findOnPath }] = await Promise.all([
    import("../../worker/profiles/index.ts"),
    import("./detect.ts"),
  ]);
  const path = process.env["PATH"] ?? "";
  const found = detectableAgents.filter(({ binaries }) => binaries.some((binary) => findOnPath(binary, path)));
  const demo = found.length === 0 && !configuration.gateway.channels.some(({ kind }) => kind === "openai");
  const agents = demo ? [demoAgent] : found;
  return { accounts: agents.map((agent) => localAccount(agent, process.env)), demo };
}

/** An account for an agent of this machine, named after it, with the credentials that this environment has for it. */
function localAccount(
  { agent, models, credentials }: DetectableAgent,
  environment: Readonly<Record<string, string | undefined>>,
): AccountSpec {
  const present = credentials.filter((name) => environment[name]);
  return create(AccountSpecSchema, {
    id: agent,
    agent,
    models: { ...models },
    env: Object.fromEntries(present.map((name) => [name, { source: { case: "fromEnv" as const, value: name } }])),
    initialMillicredits: 1_000_000n,
    millicreditsPerRequest: 1_000n,
    slots: 2,
    queue: 64,
    workers: { min: 1, max: 1 },
  });
}

interface Announcement {
  readonly system: RunningSystem;
  readonly configuration: Configuration;
  readonly demo: boolean;
  readonly file: string | undefined;
  readonly adminKeyFile: string;
  readonly logFile: string;
}

async function announce(facts: Announcement): Promise<void> {
  const [{ bannerText }, { version }] = await Promise.all([import("./banner.ts"), import("../../kit/version.ts")]);
  const { system, configuration } = facts;
  const { accounts } = system;
  const { adminKeyFile } = facts;
  if (system.access.adminKey) await writeSecret(adminKeyFile, system.access.adminKey);
  const priced = new Set(configuration.gateway.prices.map((price) => price.model));
  const { channels } = configuration.gateway;
  const models = [...new Set([...accounts, ...channels].flatMap((each) => Object.keys(each.models)))];
  process.stdout.write(
    bannerText({
      version,
      address: system.address,
      state: configuration.state,
      configuration: facts.file,
      accounts: accounts.map((each) => ({ id: each.id, agent: each.agent, models: Object.keys(each.models) })),
      channels: channels.flatMap(({ id, kind, models: names }) =>
        kind === "openai" ? [{ id, models: Object.keys(names) }] : [],
      ),
      demo: facts.demo && accounts.some((account) => account.agent === "demo"),
      apiKey: system.access.apiKey,
      adminKey: system.access.adminKey,
      adminKeyFile: system.access.adminKey ? adminKeyFile : undefined,
      unpriced: models.filter((model) => !priced.has(model)),
      logFile: facts.logFile,
    }),
  );
}

async function announceKeys({ apiKey, adminKey }: BootstrapResult, adminKeyFile: string): Promise<void> {
  const { newKeysText } = await import("./banner.ts");
  if (adminKey) await writeSecret(adminKeyFile, adminKey);
  process.stdout.write(newKeysText({ apiKey, adminKey, adminKeyFile: adminKey ? adminKeyFile : undefined }));
}

async function writeSecret(file: string, secret: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  await writeFile(file, `${secret}\n`, { mode: 0o600 });
  await chmod(file, 0o600);
}

/** Prints the first request as soon as it would be answered. */
async function sayWhenReady(system: RunningSystem, signal: AbortSignal): Promise<void> {
  const [{ readyText }, { systemClock }] = await Promise.all([import("./banner.ts"), import("../../kit/clock.ts")]);
  process.stdout.write("\nStarting the agents…\n");
  const giveUpAt = systemClock.monotonic() + readyWaitMs;
  try {
    while (systemClock.monotonic() < giveUpAt) {
      const [model] = await system.readyModels();
      if (model) {
        process.stdout.write(readyText(system.address, model, system.access.apiKey));
        return;
      }
      await systemClock.sleep(readyPollMs, signal);
    }
    process.stdout.write("No agent is ready yet. `drawbridge status` says why.\n");
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
