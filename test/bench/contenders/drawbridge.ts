// The product, with keys, limits, prices and credits on: as its users start it on one machine (`drawbridge up`), and with every service a
// process of its own, on the embedded store and on Valkey.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { accessSync, constants } from "node:fs";
import { accepts, descendants, freePort, type StartedProcess, startProgram, waitFor } from "../processes.ts";
import { benchmarkModel, type Contender, type ContenderName, type ContenderProcesses } from "./contender.ts";

export interface DrawbridgeOptions {
  /** "fast" plays what the prompt says, in a small Node process per slot. "idle" is a shell of a megabyte, for very many open streams. */
  readonly agent: "fast" | "idle";
  /** Prompts at a time: agent processes, all started before anything is measured. */
  readonly slots: number;
  /** Where gateway and worker write a CPU profile when they end. */
  readonly profileFolder?: string | undefined;
}

const entry = path("../../../services/drawbridge.ts");
const agents = {
  fast: { program: process.execPath, file: path("../fast-agent.ts") },
  idle: { program: "/bin/sh", file: path("../idle-agent.sh") },
} as const;
const apiKey = "sk-drawbridge-bench-0123456789abcdefghijklmnopqrstuvwx";
const startWithinMs = 60_000;
/** For each agent process, on top. */
const startAgentWithinMs = 100;

function path(relative: string): string {
  return fileURLToPath(new URL(relative, import.meta.url));
}

/** An account has at most 1,024 slots on a worker. */
const slotsPerAccountMax = 1_000;

function shares(slots: number): number[] {
  const accounts = Math.ceil(slots / slotsPerAccountMax);
  return Array.from({ length: accounts }, (_, index) =>
    Math.min(slotsPerAccountMax, slots - index * slotsPerAccountMax),
  );
}

/** Limits that do not bite, and a pool that neither grows, shrinks nor replaces its processes while it is measured. */
function configuration({ agent, slots }: DrawbridgeOptions): object {
  const { program, file } = agents[agent];
  return {
    listen: "127.0.0.1:0",
    agents: { bench: { command: [program, file] } },
    accounts: shares(slots).map((share, index) => ({
      id: `bench-${index + 1}`,
      agent: "bench",
      models: { [benchmarkModel]: benchmarkModel },
      credits: 1_000_000_000,
      cost_per_request: 1,
      slots: share,
      queue: 64,
      workers: { min: 1, max: 1 },
    })),
    prices: { [benchmarkModel]: { input: 0.000_1, output: 0.000_1 } },
    tiers: { default: { rpm: 1_000_000_000, tpm: 1_000_000_000_000, concurrency: 10_000, ratio: 1 } },
    worker: {
      processes_min: Math.min(slots, slotsPerAccountMax),
      starts_max: 16,
      process_turns_max: 1_000_000,
      idle_timeout: "600s",
    },
  };
}

/** A folder with the configuration in it, for as long as the contender lives. */
async function prepare(stack: AsyncDisposableStack, options: DrawbridgeOptions): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "drawbridge-bench-"));
  stack.defer(() => rm(folder, { recursive: true, force: true }));
  // JSON is YAML.
  await writeFile(join(folder, "drawbridge.yaml"), JSON.stringify(configuration(options)));
  return folder;
}

function startService(
  service: string,
  folder: string,
  environment: Readonly<Record<string, string>>,
  options: DrawbridgeOptions,
): StartedProcess {
  return startProgram({
    name: `drawbridge ${service}`,
    command: process.execPath,
    args: [entry, service, "--grace", "1s"],
    folder,
    environment: {
      DRAWBRIDGE_API_KEY: apiKey,
      ...environment,
      ...(options.profileFolder && {
        NODE_OPTIONS: `--cpu-prof --cpu-prof-interval=500 --cpu-prof-dir=${options.profileFolder}`,
      }),
    },
    endWithinMs: 15_000,
  });
}

async function awaitAgents(port: number, parent: StartedProcess, options: DrawbridgeOptions): Promise<void> {
  await waitFor("readiness", parent, startWithinMs, () => isReady(port));
  const agentFile = agents[options.agent].file;
  const agentsWithinMs = startWithinMs + options.slots * startAgentWithinMs;
  await waitFor(`${options.slots} agents`, parent, agentsWithinMs, () =>
    split(parent.pid, agentFile).agents.length >= options.slots ? true : undefined,
  );
}

export async function startDrawbridge(options: DrawbridgeOptions): Promise<Contender> {
  await using starting = new AsyncDisposableStack();
  const folder = await prepare(starting, options);
  const up = starting.use(startService("up", folder, {}, options));
  const port = await waitFor("the address of `drawbridge up`", up, startWithinMs, () => publicPort(up));
  await awaitAgents(port, up, options);
  const resources = starting.move();
  return contender("drawbridge", port, resources, () => {
    const { workers, agents: far } = split(up.pid, agents[options.agent].file);
    return { own: { up: [up.pid], worker: workers }, far };
  });
}

export async function startSplitDrawbridge(
  name: "split-sqlite" | "split-valkey",
  options: DrawbridgeOptions,
): Promise<Contender> {
  await using starting = new AsyncDisposableStack();
  const folder = await prepare(starting, options);
  const valkey = name === "split-valkey" ? await startValkey(starting, folder) : undefined;
  const services = ["registry", "scheduler", "controller", "gateway"] as const;
  const ports: Record<string, number> = {};
  for (const service of services) ports[service] = await freePort();
  const environment = {
    DRAWBRIDGE_STATE: valkey ? `valkey://127.0.0.1:${valkey.port}` : `sqlite:${join(folder, "state.db")}`,
    DRAWBRIDGE_INTERNAL_TOKEN: "bench-internal-token",
    DRAWBRIDGE_REGISTRY_URL: `http://127.0.0.1:${ports["registry"]}`,
    DRAWBRIDGE_SCHEDULER_URL: `http://127.0.0.1:${ports["scheduler"]}`,
    DRAWBRIDGE_CONTROLLER_URL: `http://127.0.0.1:${ports["controller"]}`,
    DRAWBRIDGE_LISTEN: `127.0.0.1:${ports["gateway"]}`,
  };
  const started = new Map<string, StartedProcess>();
  for (const service of services)
    started.set(service, starting.use(startService(service, folder, environment, options)));
  const pid = (service: string) => started.get(service)?.pid ?? 0;
  const port = ports["gateway"] ?? 0;
  const controller = started.get("controller");
  if (!controller) throw new Error("The controller was not started.");
  await awaitAgents(port, controller, options);
  const resources = starting.move();
  return contender(name, port, resources, () => {
    const { workers, agents: far } = split(controller.pid, agents[options.agent].file);
    const own = Object.fromEntries(services.map((service) => [service, [pid(service)]]));
    return { own: { ...own, worker: workers, ...(valkey ? { valkey: [valkey.pid] } : {}) }, far };
  });
}

function contender(
  name: ContenderName,
  port: number,
  resources: AsyncDisposableStack,
  processes: () => ContenderProcesses,
): Contender {
  return {
    name,
    port,
    headers: { authorization: `Bearer ${apiKey}` },
    processes,
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

const valkeyPrograms = ["valkey-server", "redis-server"];

/** The server's program; undefined: it is not on the PATH. */
export function valkeyProgram(): string | undefined {
  const folders = (process.env["PATH"] ?? "").split(":");
  return valkeyPrograms.flatMap((name) => folders.map((each) => join(each, name))).find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

async function startValkey(
  stack: AsyncDisposableStack,
  folder: string,
): Promise<{ readonly pid: number; readonly port: number }> {
  const port = await freePort();
  const args = ["--port", String(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""];
  const server = stack.use(startProgram({ name: "valkey", command: valkeyProgram() ?? "valkey-server", args, folder }));
  await waitFor("valkey to listen", server, 5_000, () => accepts(port));
  return { pid: server.pid, port };
}

function publicPort(up: StartedProcess): number | undefined {
  const match = /http:\/\/127\.0\.0\.1:(\d+)\/v1/.exec(up.output());
  return match ? Number(match[1]) : undefined;
}

async function isReady(port: number): Promise<true | undefined> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/readyz`);
    await response.body?.cancel();
    return response.ok ? true : undefined;
  } catch {
    return undefined;
  }
}

/** Everything below a process that does not run the agent's file is ours. */
function split(parent: number, agentFile: string): { readonly workers: number[]; readonly agents: number[] } {
  const below = descendants(parent);
  const isAgent = (each: { commandLine: string }) => each.commandLine.includes(agentFile);
  return {
    workers: below.filter((each) => !isAgent(each)).map((each) => each.pid),
    agents: below.filter(isAgent).map((each) => each.pid),
  };
}
