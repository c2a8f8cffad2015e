// Several processes of one command behind one port: the connections are shared out among them. Each is a whole process of its own, so that
// all cores work; one that dies is replaced. They end with this process, however it ends.
import cluster, { type Worker } from "node:cluster";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { AggregatorRegistry, type Registry } from "prom-client";
import type { Clock } from "./clock.ts";
import { DrawbridgeError } from "./errors.ts";
import type { Running } from "./lifecycle.ts";
import type { Log } from "./log.ts";

export interface ProcessGroupOptions {
  /** The program, and its arguments. */
  readonly entry: string;
  readonly arguments: readonly string[];
  /** Beyond our own environment. */
  readonly environment: Readonly<Record<string, string>>;
  readonly count: number;
  /** Takes what they print, by line. Absent: it goes where ours goes. */
  readonly onLine?: (line: string) => void;
  readonly clock: Clock;
  readonly log: Log;
}

export interface ProcessGroup extends Running {
  /** Where they listen, such as http://127.0.0.1:8080. */
  readonly address: string;
}

/** A process that dies is replaced after a pause that grows while they keep dying. */
const pauseFirstMs = 500;
const pauseMaxMs = 30_000;
/** One that lived so long had not failed to start. */
const settledAfterMs = 30_000;
/** What a process gets beyond its grace, before it is killed. */
const killAfterMs = 3_000;

/** Resolves when all of them listen. */
export async function startProcessGroup(options: ProcessGroupOptions): Promise<ProcessGroup> {
  const { clock, log } = options;
  cluster.setupPrimary({ exec: options.entry, args: [...options.arguments], silent: options.onLine !== undefined });
  const members = new Set<Worker>();
  let stopping = false;
  let pauseMs = pauseFirstMs;
  const metrics = answerMetrics();

  const start = (): Worker => {
    const member = cluster.fork(options.environment);
    const startedAt = clock.monotonic();
    members.add(member);
    for (const stream of [member.process.stdout, member.process.stderr]) {
      if (stream && options.onLine) createInterface({ input: stream }).on("line", options.onLine);
    }
    member.once("exit", (code: number | null, signal: string | null) => {
      members.delete(member);
      if (stopping) return;
      if (clock.monotonic() - startedAt > settledAfterMs) pauseMs = pauseFirstMs;
      log.error({ pid: member.process.pid, code, signal, again_in_ms: pauseMs }, "a process of the group ended");
      clock.after(pauseMs, () => {
        if (!stopping) start();
      });
      pauseMs = Math.min(pauseMaxMs, pauseMs * 2);
    });
    return member;
  };

  const stop = async (graceMs: number): Promise<void> => {
    stopping = true;
    const leaving = [...members];
    const exits = leaving.filter((member) => !member.isDead()).map((member) => once(member, "exit"));
    // A second signal tells them to hurry, as it does everybody.
    for (const member of leaving) member.process.kill("SIGTERM");
    using _kill = clock.after(graceMs + killAfterMs, () => {
      for (const member of leaving) member.process.kill("SIGKILL");
    });
    await Promise.all(exits);
    metrics[Symbol.dispose]();
  };

  try {
    const addresses = await Promise.all(Array.from({ length: options.count }, () => listening(start())));
    return { address: addresses[0] ?? "", stop };
  } catch (error) {
    await stop(0);
    throw error;
  }
}

async function listening(member: Worker): Promise<string> {
  const ended = new AbortController();
  const onExit = () => ended.abort();
  member.once("exit", onExit);
  try {
    const [{ address, port }] = (await once(member, "listening", { signal: ended.signal })) as [
      { address: string; port: number },
    ];
    return `http://${address.includes(":") ? `[${address}]` : address}:${port}`;
  } catch (error) {
    throw new DrawbridgeError("INTERNAL", "A process ended before it listened; its own message says why.", {
      cause: error,
    });
  } finally {
    member.off("exit", onExit);
  }
}

const askForMetrics = "drawbridge:metrics";

/** A scrape reaches one member; the figures are those of all. The first process adds them up. */
function answerMetrics(): Disposable {
  const sums = new AggregatorRegistry();
  const onMessage = (member: Worker, message: unknown) => {
    if (message !== askForMetrics) return;
    const answer = (text: string) => {
      if (member.isConnected()) member.send({ kind: askForMetrics, text });
    };
    sums.clusterMetrics().then(answer, (error: unknown) => answer(`# ${String(error)}\n`));
  };
  cluster.on("message", onMessage);
  return { [Symbol.dispose]: () => void cluster.off("message", onMessage) };
}

/** The text of a registry's metrics: in a member of a group, of the whole group. */
export function metricsOf(registry: Registry): () => Promise<string> {
  if (!cluster.isWorker) return () => registry.metrics();
  AggregatorRegistry.setRegistries(registry);
  new AggregatorRegistry();
  const waiting: ((text: string) => void)[] = [];
  process.on("message", (message: { kind?: string; text?: string }) => {
    if (message.kind !== askForMetrics) return;
    for (const resolve of waiting.splice(0)) resolve(message.text ?? "");
  });
  return () =>
    new Promise((resolve) => {
      waiting.push(resolve);
      if (waiting.length === 1) process.send?.(askForMetrics);
    });
}
