// The process driver: workers are child processes of the controller. They end with it, however it ends: each holds a pipe as its standard
// input whose other end is here, and stops when that closes.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import type { WorkerSpec } from "#gen/drawbridge/v1/account";
import type { Clock } from "../../kit/clock.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import { createFence } from "../../kit/fence.ts";
import type { Log } from "../../kit/log.ts";
import { openRotatingFile, type RotatingFile } from "../../kit/rotating-file.ts";
import type { WorkerDriver, WorkerExit, WorkerProcess } from "./driver.ts";
import { type Environment, workerEnvironment, workerSpecJson } from "./worker-environment.ts";

export interface ProcessDriverOptions {
  /** The program; it is run as `node ENTRY worker`. */
  readonly entry: string;
  /** Further arguments, such as the configuration file's. */
  readonly arguments?: readonly string[];
  readonly registryUrl: () => string;
  readonly token: string;
  /** For agents' homes and `logs/`. */
  readonly directory: string;
  readonly log: Log;
  readonly clock: Clock;
  /** What workers inherit from. Default: this process's own environment. */
  readonly environment?: Environment;
  /** Further variables for workers. */
  readonly workerEnvironment?: Readonly<Record<string, string>>;
  /** When the driver ends: time for workers to finish what they have, in ms. Default 30 s. */
  readonly graceMs?: number;
  /** Time between SIGTERM and SIGKILL of a worker that is destroyed, in ms. Default 3 s. */
  readonly terminateMs?: number;
}

/** A worker's log has two files of this size at most. */
const logBytesMax = 5 * 1024 * 1024;

interface Child extends WorkerProcess {
  readonly process: ChildProcess;
  readonly exited: Promise<void>;
  requested: boolean;
}

export function createProcessDriver(options: ProcessDriverOptions): WorkerDriver {
  const { clock, log } = options;
  const terminateMs = options.terminateMs ?? 3_000;
  const children = new Map<string, Child>();
  const listeners = new Set<(exit: WorkerExit) => void>();
  const checkEpoch = createFence();
  let ending: Promise<void> | undefined;

  async function start(spec: WorkerSpec): Promise<void> {
    const { workerId } = spec;
    const process = await spawnWorker(spec, options);
    const { promise: exited, resolve } = Promise.withResolvers<void>();
    const facts = { workerId, spec, pid: process.pid ?? 0, startedAt: clock.now() };
    const child: Child = { ...facts, process, exited, requested: false };
    children.set(workerId, child);
    process.once("exit", (code, signal) => {
      children.delete(workerId);
      const { requested } = child;
      log.info({ worker: workerId, pid: child.pid, code, signal, requested }, "worker ended");
      resolve();
      for (const listener of listeners) {
        listener({ ...facts, code: code ?? undefined, signal: signal ?? undefined, requested });
      }
    });
    log.info({ worker: workerId, pid: child.pid }, "worker started");
  }

  /** SIGTERM, then after `graceMs` the end of its standard input and another SIGTERM, which hurry it, then SIGKILL. */
  async function end(child: Child, graceMs: number): Promise<void> {
    child.requested = true;
    child.process.kill("SIGTERM");
    if (await within(child.exited, graceMs, clock)) return;
    child.process.stdin?.destroy();
    child.process.kill("SIGTERM");
    if (await within(child.exited, terminateMs, clock)) return;
    log.warn({ worker: child.workerId, pid: child.pid }, "worker did not end when asked; killing it");
    child.process.kill("SIGKILL");
    await child.exited;
  }

  return {
    async claim(epoch, signal) {
      signal.throwIfAborted();
      checkEpoch(epoch);
    },
    async create(spec, epoch, signal) {
      signal.throwIfAborted();
      checkEpoch(epoch);
      const present = children.get(spec.workerId);
      if (present && !present.requested) return;
      await present?.exited;
      if (ending) throw new DrawbridgeError("DRAINING", "The controller is stopping and starts no workers.");
      await start(spec);
    },
    async destroy(workerId, epoch) {
      checkEpoch(epoch);
      const child = children.get(workerId);
      if (child) await end(child, 0);
    },
    async list() {
      return [...children.values()].map(({ workerId, spec, pid, startedAt }) => ({ workerId, spec, pid, startedAt }));
    },
    onExit(listener) {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    async [Symbol.asyncDispose]() {
      const graceMs = options.graceMs ?? 30_000;
      ending ??= Promise.all([...children.values()].map((child) => end(child, graceMs))).then(() => {});
      await ending;
    },
  };
}

async function spawnWorker(spec: WorkerSpec, options: ProcessDriverOptions): Promise<ChildProcess> {
  const json = workerSpecJson(spec);
  const output = openRotatingFile(join(options.directory, "logs", logName(spec.workerId)), logBytesMax);
  try {
    const child = spawn(process.execPath, [options.entry, "worker", ...(options.arguments ?? [])], {
      stdio: ["pipe", "pipe", "pipe"],
      // Ctrl-C in a terminal reaches the whole foreground group; workers end when the controller says so, after their last stream.
      detached: true,
      env: {
        ...workerEnvironment(spec, options.environment ?? process.env),
        ...options.workerEnvironment,
        DRAWBRIDGE_WORKER_SPEC: json,
        DRAWBRIDGE_REGISTRY_URL: options.registryUrl(),
        DRAWBRIDGE_INTERNAL_TOKEN: options.token,
        DRAWBRIDGE_DIRECTORY: options.directory,
      },
    });
    if (child.pid === undefined) throw ((await once(child, "error")) as [Error])[0];
    keepOutput(child, output, options.log);
    return child;
  } catch (error) {
    output[Symbol.dispose]();
    const why = error instanceof Error ? error.message : String(error);
    throw new DrawbridgeError("INTERNAL", `Worker ${spec.workerId} could not be started: ${why}`, { cause: error });
  }
}

function logName(workerId: string): string {
  return `worker-${workerId.replaceAll(/[^A-Za-z0-9._-]/g, "_")}.log`;
}

/** What a worker writes goes to its log file until both its outputs have ended. */
function keepOutput(child: ChildProcess, file: RotatingFile, log: Log): void {
  const write = (chunk: Buffer) => {
    try {
      file.write(chunk);
    } catch (error) {
      log.warn({ err: error }, "a worker's output could not be written");
    }
  };
  child.stdout?.on("data", write);
  child.stderr?.on("data", write);
  child.once("close", () => file[Symbol.dispose]());
  // A worker that ended closes its end of the pipe, and takes no signals: its exit tells both.
  child.stdin?.on("error", () => {});
  child.on("error", () => {});
}

/** Whether it happens in time. */
async function within(event: Promise<void>, ms: number, clock: Clock): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  using _ = clock.after(ms, () => resolve(false));
  return await Promise.race([event.then(() => true), promise]);
}
