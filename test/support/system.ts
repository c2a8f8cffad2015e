// The real product as a process, in a folder of its own, and everything that a test wants of it.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import { createAdmin } from "./admin.ts";
import { createClients, everyAccountServes, type ServingSystem } from "./serving-system.ts";
import { processesOf, type SystemProcess } from "./system-processes.ts";
import { until } from "./until.ts";

export const entry = fileURLToPath(new URL("../../services/drawbridge.ts", import.meta.url));

export interface SystemOptions {
  /** The fields of drawbridge.yaml. Absent: there is no file. `listen` is a free port unless it is set here. */
  readonly configuration?: Readonly<Record<string, unknown>>;
  /** Its name. Default drawbridge.yaml. */
  readonly file?: string;
  /** Flags of `up` beyond --config. */
  readonly flags?: readonly string[];
  /** Beyond the keys and the address. undefined takes a variable away. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** An existing folder, from an earlier start. Default: a new one, removed at the end. */
  readonly folder?: string;
  /** What to wait for: a model that can be served (the default), or only the public port. */
  readonly until?: "ready" | "listening";
}

export interface CommandResult {
  readonly code: number | null;
  readonly output: string;
  readonly errors: string;
}

/** The process of `up`, with what it started. .drawbridge/ is in its folder. */
export interface System extends ServingSystem {
  /** The public address, such as http://127.0.0.1:40123. */
  readonly url: string;
  /** The process of `up`. */
  readonly pid: number;
  /** A client command with --json: what it printed, parsed. Rejects where it fails. */
  cli<T>(...words: string[]): Promise<T>;
  /** Any command, as it ends. */
  command(...words: string[]): Promise<CommandResult>;
  /** Sends a signal and waits for the end of `up`. */
  stop(signal?: NodeJS.Signals): Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
  /** Only sends the signal. */
  signal(name: NodeJS.Signals): void;
  /** Resolves when no process of it lives and its port is closed; fails naming what is left. */
  gone(): Promise<void>;
}

const apiKey = "sk-test-of-the-whole-system-0123456789abcdef";
const adminKey = "admin-test-of-the-whole-system-0123456789abcdef";
const defaultFile = "drawbridge.yaml";
const startTimeoutMs = 60_000;
const stopTimeoutMs = 60_000;

/** A new folder for a system. */
export async function createSystemFolder(): Promise<string> {
  return await realpath(await mkdtemp(join(tmpdir(), "drawbridge-e2e-")));
}

async function writeConfiguration(folder: string, configuration: object, file: string): Promise<void> {
  await writeFile(join(folder, file), stringify(configuration));
}

export async function startSystem(options: SystemOptions = {}): Promise<System> {
  const folder = options.folder ?? (await createSystemFolder());
  const { configuration, file = defaultFile } = options;
  if (configuration) await writeConfiguration(folder, configuration, file);
  const environment = childEnvironment(options);
  const configured = configuration ? ["--config", file] : [];
  const child = spawn(process.execPath, [entry, "up", ...configured, ...(options.flags ?? [])], {
    cwd: folder,
    env: environment,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const printed = collect(child);
  try {
    return await runningSystem({ child, folder, environment, printed, options });
  } catch (error) {
    await end(child);
    throw new Error(`The system did not start. It printed:\n${printed()}`, { cause: error });
  }
}

function childEnvironment({ configuration, environment }: SystemOptions): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(?:DRAWBRIDGE_|VITEST|NODE_ENV)/.test(name));
  return {
    ...Object.fromEntries(inherited),
    DRAWBRIDGE_API_KEY: apiKey,
    DRAWBRIDGE_ADMIN_KEY: adminKey,
    ...(configuration?.["listen"] ? {} : { DRAWBRIDGE_LISTEN: "127.0.0.1:0" }),
    ...environment,
  };
}

/** What the process prints, of bounded size. */
function collect(child: ChildProcess): () => string {
  let text = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (part: string) => (text = (text + part).slice(-(1 << 20))));
  }
  return () => text;
}

interface Started {
  readonly child: ChildProcess;
  readonly folder: string;
  readonly environment: NodeJS.ProcessEnv;
  readonly printed: () => string;
  readonly options: SystemOptions;
}

async function runningSystem({ child, folder, environment, printed, options }: Started): Promise<System> {
  const ended = () => child.exitCode !== null || child.signalCode !== null;
  const url = await until(
    "up prints its address",
    () => /https?:\/\/[^\s/]+:\d+(?=\/v1)/.exec(printed())?.[0] ?? (ended() ? "" : undefined),
    { timeoutMs: startTimeoutMs },
  );
  if (url === "") throw new Error("up has ended");
  const keyOf = (name: string, found: RegExp) => environment[name] ?? found.exec(printed())?.[1] ?? "";
  const key = keyOf("DRAWBRIDGE_API_KEY", /API key +(\S{16,})/);
  const admin = keyOf("DRAWBRIDGE_ADMIN_KEY", /admin key +(\S{16,})/);

  const clients = createClients([url], key);
  const command = (...words: string[]) =>
    runCommand(words, folder, { DRAWBRIDGE_URL: url, DRAWBRIDGE_ADMIN_KEY: admin });
  const operator = createAdmin(url, admin);
  if (options.until !== "listening") {
    const ready = async () => (await clients.request("/readyz", { apiKey: null })).ok;
    const limits = { timeoutMs: startTimeoutMs, everyMs: 50 };
    await until("/readyz answers 200", ready, limits);
    // A start after the first one prints no key that could ask.
    if (admin !== "") await until("every account serves", () => everyAccountServes(operator), limits);
  }
  const system: System = {
    url,
    urls: [url],
    apiKey: key,
    adminKey: admin,
    folder,
    pid: child.pid ?? 0,
    admin: operator,
    printed,
    ...clients,
    command,
    async cli<T>(...words: string[]) {
      const { code, output, errors } = await command(...words, "--json");
      if (code !== 0) throw new Error(`drawbridge ${words.join(" ")} ended with ${code}:\n${errors}${output}`);
      return JSON.parse(output) as T;
    },
    processes: () => processesOf(folder),
    signal: (name) => void child.kill(name),
    async stop(name = "SIGTERM") {
      if (child.exitCode === null && child.signalCode === null) {
        const ended = once(child, "exit", { signal: AbortSignal.timeout(stopTimeoutMs) });
        child.kill(name);
        await ended;
      }
      return { code: child.exitCode, signal: child.signalCode };
    },
    gone: () => waitUntilGone(folder, url),
    async [Symbol.asyncDispose]() {
      await operator[Symbol.asyncDispose]();
      await end(child);
      await waitUntilGone(folder, url);
      if (!options.folder) await rm(folder, { recursive: true, force: true });
    },
  };
  return system;
}

/** Ends it gently, and by force where it does not end. */
async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  // The second signal skips the grace for streams in flight: a test that wants it asks for it.
  child.kill("SIGTERM");
  const hurry = setTimeout(() => child.kill("SIGTERM"), 1_000);
  const force = setTimeout(() => child.kill("SIGKILL"), 20_000);
  await ended;
  clearTimeout(hurry);
  clearTimeout(force);
}

async function waitUntilGone(folder: string, url: string): Promise<void> {
  let left: SystemProcess[] = [];
  const noProcess = async () => {
    left = await processesOf(folder);
    return left.length === 0;
  };
  await until("no process of the system is left", noProcess).catch((error: unknown) => {
    const lines = left.map((each) => `${each.pid} (parent ${each.parent}): ${each.command}`);
    throw new Error(`Processes of the system are left:\n${lines.join("\n")}`, { cause: error });
  });
  await until("the port is closed", () => refusesConnections(new URL(url)));
}

async function refusesConnections({ hostname, port }: URL): Promise<boolean> {
  const socket = connect({ host: hostname, port: Number(port) });
  try {
    await once(socket, "connect");
    return false;
  } catch {
    return true;
  } finally {
    socket.destroy();
  }
}

/** Runs a command of the product to its end. */
export function runCommand(
  words: readonly string[],
  folder: string,
  environment: Readonly<Record<string, string>>,
): Promise<CommandResult> {
  const { promise, resolve } = Promise.withResolvers<CommandResult>();
  const inherited = Object.entries(process.env).filter(([name]) => !/^(?:DRAWBRIDGE_|VITEST|NODE_ENV)/.test(name));
  const child = execFile(
    process.execPath,
    [entry, ...words],
    { cwd: folder, env: { ...Object.fromEntries(inherited), ...environment }, timeout: 60_000, maxBuffer: 64 << 20 },
    (_, output, errors) => resolve({ code: child.exitCode, output, errors }),
  );
  child.stdin?.end();
  return promise;
}
