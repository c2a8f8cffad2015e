// One agent process and all that it starts: in a process group of its own, tagged, and gone when it is stopped.
import { type ChildProcess, spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import type { Clock } from "../../kit/clock.ts";
import { findDescendants, isAlive, type ProcessIdentity, tagVariable } from "./process-table.ts";
import type { Reaper } from "./reaper.ts";
import { createTextRing } from "./text-ring.ts";

export interface AgentProcessOptions {
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly directory: string;
  /** Unique to the process; begins with the worker's tag. */
  readonly tag: string;
  readonly reaper: Reaper;
  readonly clock: Clock;
  readonly terminateGraceMs: number;
  readonly stderrBytesMax: number;
}

export interface AgentProcess {
  /** undefined: the command could not be started. */
  readonly pid: number | undefined;
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** How it ended, in words, once what it wrote has been read. Never rejects. */
  readonly ended: Promise<string>;
  /** The end of its standard error, from a mark on. Not redacted. */
  stderr(since?: number): string;
  readonly stderrPosition: number;
  /** Enters a line as if the process had written it to standard error: complaints that come by another way. */
  note(line: string): void;
  /** Told whenever something was written to standard error. */
  onStderr(listener: () => void): void;
  /** Ends it and its descendants: SIGTERM to the group, a bounded wait, SIGKILL, then whatever carries the tag. Repeated calls share one. */
  stop(): Promise<void>;
}

/** After the process ended, what it wrote is still read for so long: a grandchild may hold the pipe open for ever. */
const drainMs = 250;
const pollMs = 10;
const sweepsMax = 50;

export function startAgentProcess(options: AgentProcessOptions): AgentProcess {
  const [file = "", ...args] = options.command;
  const child = spawn(file, args, {
    cwd: options.directory,
    env: { ...options.environment, [tagVariable]: options.tag },
    detached: true,
    stdio: ["pipe", "pipe", "pipe"],
  });
  if (child.pid !== undefined) options.reaper.watch(child.pid);
  const ring = createTextRing(options.stderrBytesMax);
  let onStderr: () => void = () => {};
  const hear = (chunk: Buffer) => {
    ring.push(chunk);
    onStderr();
  };
  child.stderr.on("data", hear).on("error", () => {});
  const ended = waitForEnd(child, file, options.clock);
  let stopping: Promise<void> | undefined;
  return {
    pid: child.pid,
    stdin: child.stdin,
    stdout: child.stdout,
    ended,
    stderr: (since) => ring.text(since),
    get stderrPosition() {
      return ring.position;
    },
    note: (line) => hear(Buffer.from(`${line}\n`)),
    onStderr: (listener) => void (onStderr = listener),
    stop: () => (stopping ??= stopProcess(child, options)),
  };
}

async function waitForEnd(child: ChildProcess, file: string, clock: Clock): Promise<string> {
  const how = await new Promise<string>((resolve) => {
    child.once("exit", (code, signal) => {
      resolve(signal ? `was ended by ${signal}` : `ended with exit code ${code}`);
    });
    child.once("error", (error: NodeJS.ErrnoException) => {
      if (child.pid !== undefined) return;
      resolve(`could not be started: ${error.code === "ENOENT" ? `${file} was not found` : error.message}`);
    });
  });
  if (child.pid === undefined) return how;
  const { promise: drained, resolve } = Promise.withResolvers<void>();
  child.stdout?.once("close", resolve);
  if (child.stdout?.closed) resolve();
  using _ = clock.after(drainMs, resolve);
  await drained;
  return how;
}

async function stopProcess(child: ChildProcess, options: AgentProcessOptions): Promise<void> {
  const { clock, reaper, tag, terminateGraceMs } = options;
  const { pid } = child;
  if (pid === undefined) return;
  const family = await findDescendants(pid, tag);
  child.stdin?.end();
  signalGroup(pid, "SIGTERM");
  const deadline = clock.monotonic() + terminateGraceMs;
  while (groupLives(pid) && clock.monotonic() < deadline) await clock.sleep(pollMs);
  if (groupLives(pid)) signalGroup(pid, "SIGKILL");
  await sweep(family, tag, clock);
  // A group whose members are all dead may still be there while nobody has collected them; the tag tells whether anybody lives.
  for (const pipe of [child.stdin, child.stdout, child.stderr]) pipe?.destroy();
  reaper.forget(pid);
}

/** Kills who left the group, and who was started meanwhile, until nobody is left. */
async function sweep(family: readonly ProcessIdentity[], tag: string, clock: Clock): Promise<void> {
  for (let round = 0; round < sweepsMax; round++) {
    const left = await findDescendants(undefined, tag);
    for (const member of family) if (await isAlive(member)) left.push(member);
    if (left.length === 0) return;
    for (const { pid } of left) signal(pid, "SIGKILL");
    await clock.sleep(pollMs);
  }
}

function signalGroup(group: number, name: NodeJS.Signals): void {
  signal(-group, name);
}

function groupLives(group: number): boolean {
  return signal(-group, 0);
}

/** false: there is nobody to signal, or nobody that we may. */
function signal(pid: number, name: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, name);
  } catch {
    return false;
  }
}
