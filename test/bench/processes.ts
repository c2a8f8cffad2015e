// Starts, watches and ends the benchmark's own processes, and finds the descendants of one.
import { type ChildProcess, fork, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { connect, createServer, type AddressInfo, type Server } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

export interface StartedProcess extends AsyncDisposable {
  readonly pid: number;
  readonly child: ChildProcess;
  /** What it has printed so far: standard output and standard error, the last 64 KiB. */
  output(): string;
}

export interface StartOptions {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly folder?: string;
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** Time to end by itself after SIGTERM, in ms; then it is killed. */
  readonly endWithinMs?: number;
}

/** All that runs, for an end before the end. */
const running = new Set<StartedProcess>();
let ending = false;

/** Ends every process that was started here. Whoever works with one fails, gives back what it holds, and no further one starts. */
export async function endAllProcesses(): Promise<void> {
  ending = true;
  await Promise.all([...running].map((each) => each[Symbol.asyncDispose]()));
}

const outputCharactersMax = 64 << 10;
const endWithinDefaultMs = 3_000;

/** A program as a child, in an environment with nothing but what is named here. */
export function startProgram(options: StartOptions): StartedProcess {
  refuseWhenEnding();
  const child = spawn(options.command, options.args, {
    cwd: options.folder,
    env: { PATH: process.env["PATH"], ...options.environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  return track(child, options.name, options.endWithinMs ?? endWithinDefaultMs);
}

/** One of the benchmark's own modules as a child that can be talked to. */
export function startModule(file: URL, args: readonly string[] = []): StartedProcess {
  refuseWhenEnding();
  const child = fork(file, args, { stdio: ["ignore", "pipe", "pipe", "ipc"], execArgv: [] });
  return track(child, file.pathname, endWithinDefaultMs);
}

function refuseWhenEnding(): void {
  if (ending) throw new Error("The benchmark is being ended.");
}

function track(child: ChildProcess, name: string, endWithinMs: number): StartedProcess {
  let printed = "";
  const keep = (text: string) => {
    printed = (printed + text).slice(-outputCharactersMax);
  };
  child.stdout?.setEncoding("utf8").on("data", keep);
  child.stderr?.setEncoding("utf8").on("data", keep);
  // A program that cannot be started has no pid; whoever waits for it reads why.
  child.on("error", (error) => keep(`${name}: ${error.message}\n`));
  const started: StartedProcess = {
    pid: child.pid ?? 0,
    child,
    output: () => printed,
    async [Symbol.asyncDispose]() {
      const family = child.pid ? descendants(child.pid) : [];
      await endChild(child, endWithinMs);
      killLeftovers(family);
      running.delete(started);
    },
  };
  running.add(started);
  return started;
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null || child.pid === undefined;
}

async function endChild(child: ChildProcess, endWithinMs: number): Promise<void> {
  if (hasEnded(child)) return;
  const exited = once(child, "exit");
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), endWithinMs);
  await exited;
  clearTimeout(timer);
}

/** Descendants that outlived their parent, and are still what they were. */
function killLeftovers(family: readonly ProcessInfo[]): void {
  for (const { pid, startedAt } of family) {
    if (readProcess(pid)?.startedAt !== startedAt) continue;
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It ended in this moment.
    }
  }
}

export interface ProcessInfo {
  readonly pid: number;
  readonly parent: number;
  /** In ticks since the machine started: tells a process from a later one with its number. */
  readonly startedAt: string;
  readonly commandLine: string;
}

function readProcess(pid: number): ProcessInfo | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The name stands in brackets and may hold anything; the fields after it are plain.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (fields[0] === "Z") return undefined;
    const commandLine = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim();
    return { pid, parent: Number(fields[1]), startedAt: fields[19] ?? "", commandLine };
  } catch {
    return undefined;
  }
}

/** Everything below a process, itself left out. */
export function descendants(root: number): ProcessInfo[] {
  const all = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => readProcess(Number(name)))
    .filter((found) => found !== undefined);
  const children = Map.groupBy(all, (each) => each.parent);
  const below = (pid: number): ProcessInfo[] => (children.get(pid) ?? []).flatMap((each) => [each, ...below(each.pid)]);
  return below(root);
}

/** Resolves with the first value that is not undefined; fails with what the process printed if it ends or the time is up. */
export async function waitFor<Value>(
  what: string,
  watched: StartedProcess,
  withinMs: number,
  look: () => Value | undefined | Promise<Value | undefined>,
): Promise<Value> {
  const giveUpAt = performance.now() + withinMs;
  for (;;) {
    const value = await look();
    if (value !== undefined) return value;
    const problem = hasEnded(watched.child)
      ? "the process ended"
      : performance.now() > giveUpAt
        ? "the time was up"
        : undefined;
    if (problem) throw new Error(`Waited for ${what}: ${problem}. It printed:\n${watched.output()}`);
    await sleep(50);
  }
}

/** In a module that was started with startModule: listens on a free loopback port, says which, and ends when asked to. */
export function announceListening(server: Server): void {
  server.listen({ host: "127.0.0.1", port: 0, backlog: 4_096 }, () => {
    process.send?.({ port: (server.address() as AddressInfo).port });
  });
  process.once("disconnect", () => process.exit(0));
  process.once("SIGTERM", () => process.exit(0));
}

/** The port that announceListening said. */
export async function listeningPort(started: StartedProcess): Promise<number> {
  let port: number | undefined;
  started.child.once("message", (message) => {
    ({ port } = message as { port: number });
  });
  return waitFor("a listening port", started, 10_000, () => port);
}

/** A loopback port that was free a moment ago, for programs that cannot choose one themselves. */
export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen({ host: "127.0.0.1", port: 0 });
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** Whether something listens there. */
export function accepts(port: number): Promise<true | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port });
    socket.once("connect", () => resolve(true)).once("error", () => resolve(undefined));
    socket.once("connect", () => socket.destroy());
  });
}
