// The product as it is started by its users: `drawbridge up` with its embedded store, keys, limits, prices and credits on.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { descendants, type StartedProcess, startProgram, waitFor } from "../processes.ts";
import { benchmarkModel, type Contender, type ContenderProcesses } from "./contender.ts";

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

function path(relative: string): string {
  return fileURLToPath(new URL(relative, import.meta.url));
}

/** Limits that do not bite, and a pool that neither grows, shrinks nor replaces its processes while it is measured. */
function configuration({ agent, slots }: DrawbridgeOptions): object {
  const { program, file } = agents[agent];
  return {
    listen: "127.0.0.1:0",
    agents: { bench: { command: [program, file] } },
    accounts: [
      {
        id: "bench",
        agent: "bench",
        models: { [benchmarkModel]: benchmarkModel },
        credits: 1_000_000_000,
        cost_per_request: 1,
        slots,
        queue: 64,
        workers: { min: 1, max: 1 },
      },
    ],
    prices: { [benchmarkModel]: { input: 0.000_1, output: 0.000_1 } },
    tiers: { default: { rpm: 1_000_000_000, tpm: 1_000_000_000_000, concurrency: 10_000, ratio: 1 } },
    worker: { processes_min: slots, starts_max: 16, process_turns_max: 1_000_000, idle_timeout: "600s" },
  };
}

export async function startDrawbridge(options: DrawbridgeOptions): Promise<Contender> {
  await using starting = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "drawbridge-bench-"));
  starting.defer(() => rm(folder, { recursive: true, force: true }));
  const file = join(folder, "bench.json");
  // JSON is YAML.
  await writeFile(file, JSON.stringify(configuration(options)));
  const up = starting.use(
    startProgram({
      name: "drawbridge",
      command: process.execPath,
      args: [entry, "up", "--config", file, "--grace", "1s"],
      folder,
      environment: {
        DRAWBRIDGE_API_KEY: apiKey,
        ...(options.profileFolder && {
          NODE_OPTIONS: `--cpu-prof --cpu-prof-interval=500 --cpu-prof-dir=${options.profileFolder}`,
        }),
      },
      endWithinMs: 15_000,
    }),
  );
  const port = await waitFor("the address of `drawbridge up`", up, startWithinMs, () => publicPort(up));
  await waitFor("readiness", up, startWithinMs, () => isReady(port));
  const agentFile = agents[options.agent].file;
  await waitFor(`${options.slots} agents`, up, startWithinMs, () =>
    split(up.pid, agentFile).far.length >= options.slots ? true : undefined,
  );
  const resources = starting.move();
  return {
    name: "drawbridge",
    port,
    authorization: `Bearer ${apiKey}`,
    processes: () => split(up.pid, agentFile),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

function publicPort(up: StartedProcess): number | undefined {
  const match = /http:\/\/127\.0\.0\.1:(\d+)\/v1/.exec(up.output());
  return match ? Number(match[1]) : undefined;
}

async function isReady(port: number): Promise<true | undefined> {
  const response = await fetch(`http://127.0.0.1:${port}/readyz`);
  await response.body?.cancel();
  return response.ok ? true : undefined;
}

/** Everything below `up` that does not run the agent's file is ours. */
function split(up: number, agentFile: string): ContenderProcesses {
  const below = descendants(up);
  const isAgent = (each: { commandLine: string }) => each.commandLine.includes(agentFile);
  const workers = below.filter((each) => !isAgent(each)).map((each) => each.pid);
  return { own: { up: [up], worker: workers }, far: below.filter(isAgent).map((each) => each.pid) };
}
