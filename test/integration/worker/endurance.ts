// A long life of one worker in a short time: prompts at random through healthy and faulty agents, with cancels, callers that leave, floods
// and agents that are killed; then everything is counted that could have been left over.
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { setTimeout as sleep } from "node:timers/promises";
import type { ServiceImpl } from "@connectrpc/connect";
import type { RegistryService } from "#gen/drawbridge/v1/registry_service";
import { newId, type Random } from "../../../services/kit/random.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { processesOf } from "../../support/system-processes.ts";
import { until } from "../../support/until.ts";
import { startWorker, type WorkerUnderTest } from "./harness.ts";
import type { Instruction } from "../../support/fleet.ts";

export interface EnduranceOptions {
  readonly prompts: number;
  readonly seed: number;
  /** Told now and then. */
  readonly onProgress?: (text: string) => void;
}

/** What a worker holds at one moment. */
export interface Holdings {
  readonly agentProcesses: number;
  readonly sessionFolders: number;
  readonly fileDescriptors: number;
  /** After a collection. */
  readonly heapMiB: number;
  readonly residentMiB: number;
}

export interface EnduranceResult {
  /** Before the first prompt, with the pool warm. */
  readonly before: Holdings;
  /** After the last one, with the pool idle. */
  readonly after: Holdings;
  /** When the worker has ended. */
  readonly ended: Holdings;
  /** Prompts by how they ended, as their callers saw it. */
  readonly ends: Readonly<Record<string, number>>;
  readonly admitted: number;
  /** Outcomes that the registry heard of, each counted once. */
  readonly outcomes: number;
  readonly kills: number;
  readonly seconds: number;
}

export const slots = 6;
const callers = 16;
const queue = callers;

/** How often each thing is asked for, in parts of 1,000; what is left is a healthy answer. */
const faults: readonly (readonly [parts: number, make: (random: Random) => Instruction])[] = [
  [20, () => ({ do: "die" })],
  [15, (random) => ({ do: "die", chunks: 1 + whole(random, 5) })],
  [40, () => ({ do: "error", message: "stream broke" })],
  [20, () => ({ do: "error", chunks: 2, message: "ThrottlingException: Rate exceeded, retry after 1 second" })],
  [30, (random) => ({ do: "hang", chunks: whole(random, 3) })],
  [2, () => ({ do: "ignore_cancel", chunks: 1 })],
  [40, () => ({ do: "noise" })],
  [10, () => ({ do: "long_line", bytes: 1_500_000 })],
  [10, () => ({ do: "split_utf8" })],
  [10, () => ({ do: "spawn" })],
  [3, () => ({ do: "hold_stdout", chunks: 1 })],
  [30, () => ({ do: "late" })],
  [20, () => ({ do: "stderr", message: "x".repeat(100_000) })],
  [20, () => ({ do: "empty" })],
  [20, () => ({ do: "forget" })],
  [20, () => ({ do: "permission" })],
  [30, () => ({ do: "answer", chunks: 2_000, size: 200 })],
];

/** What a caller does with an answer beside reading it. */
type Caller = "reads" | "cancels" | "leaves" | "is slow" | "has a deadline";

export async function endure({ prompts, seed, onProgress }: EnduranceOptions): Promise<EnduranceResult> {
  const random = seededRandom(seed);
  const delivered = new CountedOnce();
  const worker = await startWorker({
    slots,
    queue,
    registry: countingRegistry(delivered),
    settings: {
      line_limit: "1MiB",
      first_token_timeout: "2s",
      idle_timeout: "2s",
      cancel_grace: "300ms",
      terminate_grace: "300ms",
      restart_backoff: "10ms",
      restart_backoff_max: "100ms",
      process_turns_max: 100,
      process_idle_timeout: "1s",
    },
  });
  const startedAt = performance.now();
  const ends: Record<string, number> = {};
  let begun = 0;
  let kills = 0;
  try {
    await worker.ready();
    await idle(worker);
    const before = await holdings(worker.directory);

    const caller = async () => {
      while (begun < prompts) {
        begun += 1;
        const number = begun;
        if (number % 150 === 0) kills += await killOne(worker, random);
        if (number % 1_000 === 0) onProgress?.(`${number} prompts`);
        const end = await promptOnce(worker, random);
        ends[end] = (ends[end] ?? 0) + 1;
      }
    };
    await Promise.all(Array.from({ length: callers }, caller));

    await idle(worker);
    const admitted = begun - (ends[notAdmitted] ?? 0);
    await until("every outcome is delivered", () => delivered.size >= admitted);
    const after = await holdings(worker.directory);
    await worker.app[Symbol.asyncDispose]();
    const ended = await holdings(worker.directory);
    const seconds = Math.round((performance.now() - startedAt) / 1_000);
    return { before, after, ended, ends, admitted, outcomes: delivered.size, kills, seconds };
  } finally {
    await worker.app[Symbol.asyncDispose]();
    await rm(worker.directory, { recursive: true, force: true });
  }
}

function chooseInstruction(random: Random): Instruction {
  let draw = random() * 1_000;
  for (const [parts, make] of faults) {
    if (draw < parts) return make(random);
    draw -= parts;
  }
  return { do: "answer", chunks: whole(random, 20), thoughts: whole(random, 3), size: 1 + whole(random, 64) };
}

function chooseCaller(random: Random, { do: action }: Instruction): Caller {
  const draw = random();
  // These never end by themselves, or only after a long silence.
  if (action === "hang" || action === "ignore_cancel") return draw < 0.6 ? "cancels" : "has a deadline";
  if (draw < 0.08) return "cancels";
  if (draw < 0.14) return "leaves";
  return draw < 0.17 ? "is slow" : "reads";
}

/** The pool took no prompt: it was full, or had no process. */
export const notAdmitted = "not admitted";

/** How it ended, in a word. */
async function promptOnce(worker: WorkerUnderTest, random: Random): Promise<string> {
  const instruction = chooseInstruction(random);
  const caller = chooseCaller(random, instruction);
  const attemptId = newId("att");
  const waitMs = whole(random, 60);
  const left = new AbortController();
  if (caller === "cancels") {
    void sleep(waitMs).then(() => worker.calls.cancelPrompt({ attemptId }));
  } else if (caller === "leaves") {
    void sleep(waitMs).then(() => left.abort());
  }
  const { error, outcome, stopReason } = await worker.prompt(instruction, {
    attemptId,
    signal: left.signal,
    ...(caller === "has a deadline" ? { timeoutMs: 100 + waitMs } : {}),
    ...(caller === "is slow" ? { onEvents: () => sleep(waitMs) } : {}),
  });
  if (left.signal.aborted) return "left";
  if (error && !outcome) {
    // A pool that gave up for a moment says when it tries again.
    await sleep(error.retryAfterMs ?? 25);
    return notAdmitted;
  }
  if (error) return error.reason;
  return `finished, ${String(stopReason)}`;
}

async function killOne({ directory }: WorkerUnderTest, random: Random): Promise<number> {
  const agents = (await processesOf(directory)).filter(({ command }) => command.includes("faulty-agent"));
  const victim = agents[whole(random, agents.length)];
  if (!victim) return 0;
  try {
    process.kill(victim.pid, "SIGKILL");
    return 1;
  } catch {
    // It ended by itself meanwhile.
    return 0;
  }
}

/** Nothing runs or waits, and the pool is back at its minimum. */
async function idle(worker: WorkerUnderTest): Promise<void> {
  await until(
    "the pool is idle",
    async () => {
      const { availableSlots, queueDepth, processes } = await worker.pool();
      return availableSlots === slots && queueDepth === 0 && processes === 1;
    },
    { timeoutMs: 60_000 },
  );
}

async function holdings(directory: string): Promise<Holdings> {
  collect();
  const { heapUsed, rss } = process.memoryUsage();
  const processFolders = await foldersIn(join(directory, "work", "*"));
  return {
    agentProcesses: (await processesOf(directory)).length,
    sessionFolders: processFolders.length,
    fileDescriptors: (await readdir("/proc/self/fd")).length,
    heapMiB: mebibytes(heapUsed),
    residentMiB: mebibytes(rss),
  };
}

/** Session folders of all processes: WORK/WORKER/PROCESS/session-N. */
async function foldersIn(pattern: string): Promise<string[]> {
  const found: string[] = [];
  const work = pattern.slice(0, -2);
  for (const entry of await readdir(work, { recursive: true, withFileTypes: true }).catch(() => [])) {
    if (entry.isDirectory() && entry.name.startsWith("session-")) found.push(join(entry.parentPath, entry.name));
  }
  return found;
}

function collect(): void {
  setFlagsFromString("--expose-gc");
  const gc = runInNewContext("gc") as () => void;
  for (let round = 0; round < 3; round++) gc();
}

function mebibytes(bytes: number): number {
  return Math.round((bytes / 2 ** 20) * 10) / 10;
}

function whole(random: Random, below: number): number {
  return Math.floor(random() * below);
}

/** Counts different ids without keeping more than a window of them: a redelivery comes soon or not at all. */
class CountedOnce {
  size = 0;
  readonly #recent = new Set<string>();

  add(id: string): void {
    if (this.#recent.has(id)) return;
    this.#recent.add(id);
    this.size += 1;
    if (this.#recent.size <= 5_000) return;
    const [oldest] = this.#recent;
    if (oldest !== undefined) this.#recent.delete(oldest);
  }
}

function countingRegistry(delivered: CountedOnce): ServiceImpl<typeof RegistryService> {
  const take = (outcomes: readonly { readonly attemptId: string }[]) => {
    for (const { attemptId } of outcomes) delivered.add(attemptId);
    return outcomes.map(({ attemptId }) => attemptId);
  };
  return {
    register: () => ({ heartbeatInterval: { seconds: 1n, nanos: 0 } }),
    heartbeat: ({ outcomes }) => ({ acknowledgedAttemptIds: take(outcomes) }),
    deregister({ outcomes }) {
      take(outcomes);
      return {};
    },
    listWorkers: () => ({ workers: [] }),
    // oxlint-disable-next-line require-yield
    async *watchWorkers() {},
  };
}
