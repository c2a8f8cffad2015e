// Valkey servers for tests, real ones: alone, behind Sentinels, as a Cluster. In this order: the server that VALKEY_URL names; a container, where Docker
// runs; valkey-server or redis-server on the PATH; the package redis-server, installed where this is a Debian machine and we are root. If nothing
// of that works, the tests fail. Sentinels and a Cluster are always processes of this machine.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants, existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { Redis, type RedisOptions } from "ioredis";
import { until } from "./until.ts";

export interface ValkeyServer extends AsyncDisposable {
  /** What `openState` takes. */
  readonly url: string;
}

/** A server process of this machine. */
export interface ValkeyProcess extends AsyncDisposable {
  readonly port: number;
  /** Ends it at once, and waits until it has. What it wrote to disk stays. */
  kill(): Promise<void>;
  /** Starts it again on the same port, with what it had written. */
  restart(): Promise<void>;
  /** Stops it in its tracks: it neither answers nor hangs up. */
  pause(): void;
  resume(): void;
}

const image = "valkey/valkey:8.1-alpine";
const host = "127.0.0.1";

/** One server, by whatever way there is. */
export async function startValkey(): Promise<ValkeyServer> {
  const given = process.env["VALKEY_URL"];
  if (given) {
    await reachable(given);
    return { url: given, [Symbol.asyncDispose]: async () => {} };
  }
  const container = await startContainer();
  if (container) return container;
  const server = await startValkeyProcess();
  return { url: `valkey://${host}:${server.port}`, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
}

/** Fails for a server that is named and does not answer: that must not look like one that is not there. */
async function reachable(url: string): Promise<void> {
  if (!/^(redis|valkey)s?:\/\//.test(url)) return;
  const client = new Redis(url.replace(/^valkey/, "redis"), { lazyConnect: true, retryStrategy: () => null });
  client.on("error", () => {});
  try {
    await client.connect();
    await client.ping();
  } catch (error) {
    throw new Error(`VALKEY_URL names a server that does not answer: ${url}`, { cause: error });
  } finally {
    client.disconnect();
  }
}

async function startContainer(): Promise<ValkeyServer | undefined> {
  const { GenericContainer, getContainerRuntimeClient } = await import("testcontainers");
  try {
    await getContainerRuntimeClient();
  } catch {
    return undefined;
  }
  const container = await new GenericContainer(image).withExposedPorts(6379).start();
  return {
    url: `valkey://${container.getHost()}:${container.getMappedPort(6379)}`,
    async [Symbol.asyncDispose]() {
      await container.stop();
    },
  };
}

/** A server process with an empty folder, on a free port. The password is the one that the options set. */
export async function startValkeyProcess(options: readonly string[] = [], password?: string): Promise<ValkeyProcess> {
  await using starting = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "drawbridge-valkey-"));
  starting.defer(() => rm(directory, { recursive: true, force: true }));
  const [port = 0] = await freePorts(1);
  const settings = ["--port", `${port}`, "--bind", host, "--dir", directory, "--save", "", ...options];
  const start = () => startProcess(serverBinary(), settings, { host, port, ...(password ? { password } : {}) });
  let current = await start();
  starting.defer(() => end(current));
  const resources = starting.move();
  return {
    port,
    kill: () => end(current),
    async restart() {
      current = await start();
    },
    pause: () => void current.kill("SIGSTOP"),
    resume: () => void current.kill("SIGCONT"),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

export interface ValkeyCluster extends ValkeyServer {
  readonly masters: readonly ValkeyProcess[];
}

export interface ValkeyClusterOptions {
  /** Whether a missing node stops the others too, as servers do unless told otherwise. Default true. */
  readonly requireFullCoverage?: boolean;
  /** Whether a node that is killed has lost nothing of what it answered. Default false. */
  readonly durable?: boolean;
}

/** Three masters that share all slots. */
export async function startValkeyCluster({
  requireFullCoverage = true,
  durable = false,
}: ValkeyClusterOptions = {}): Promise<ValkeyCluster> {
  await using starting = new AsyncDisposableStack();
  const options = [
    "--cluster-enabled",
    "yes",
    "--cluster-node-timeout",
    "2000",
    "--appendonly",
    "yes",
    "--appendfsync",
    durable ? "always" : "everysec",
    "--cluster-require-full-coverage",
    requireFullCoverage ? "yes" : "no",
  ];
  const masters = await Promise.all([0, 1, 2].map(() => startValkeyProcess(options)));
  for (const master of masters) starting.use(master);
  const addresses = masters.map(({ port }) => `${host}:${port}`);
  await joinCluster(masters.map(({ port }) => port));
  const resources = starting.move();
  return {
    url: `valkey+cluster://${addresses.join(",")}`,
    masters,
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

const slots = 16_384;

async function joinCluster(ports: readonly number[]): Promise<void> {
  const clients = ports.map((port) => new Redis({ host, port }));
  try {
    for (const [index, client] of clients.entries()) {
      const first = Math.floor((index * slots) / ports.length);
      const last = Math.floor(((index + 1) * slots) / ports.length) - 1;
      await client.cluster("ADDSLOTSRANGE", first, last);
      await client.call("CLUSTER", "SET-CONFIG-EPOCH", index + 1);
      if (index > 0) await client.cluster("MEET", host, ports[0] ?? 0);
    }
    for (const client of clients) {
      await until("every node knows a whole cluster", async () => {
        const info = String(await client.cluster("INFO"));
        return info.includes("cluster_state:ok") && info.includes(`cluster_known_nodes:${ports.length}`);
      });
    }
  } finally {
    for (const client of clients) client.disconnect();
  }
}

export interface ValkeySentinels extends ValkeyServer {
  /** The master at first. */
  readonly master: ValkeyProcess;
}

/** A master with a replica, and three Sentinels that watch them. */
export async function startValkeySentinels(): Promise<ValkeySentinels> {
  await using starting = new AsyncDisposableStack();
  const replication = ["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"];
  const master = starting.use(await startValkeyProcess(replication));
  const replica = starting.use(await startValkeyProcess([...replication, "--replicaof", host, `${master.port}`]));
  const client = new Redis({ host, port: replica.port });
  try {
    await until("the replica follows", async () =>
      (await client.info("replication")).includes("master_link_status:up"),
    );
  } finally {
    client.disconnect();
  }
  const directory = await mkdtemp(join(tmpdir(), "drawbridge-sentinel-"));
  starting.defer(() => rm(directory, { recursive: true, force: true }));
  const ports = await freePorts(3);
  for (const port of ports) {
    const sentinel = await startSentinel(directory, port, master.port);
    starting.defer(() => end(sentinel));
  }
  await sentinelsAgree(ports);
  const resources = starting.move();
  return {
    url: `valkey+sentinel://${ports.map((port) => `${host}:${port}`).join(",")}/main`,
    master,
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

/** Waits until the master's replica has all that the master has. */
export async function replicated(port: number): Promise<void> {
  const client = new Redis({ host, port });
  try {
    await until("the replica has everything", async () => (await client.wait(1, 1_000)) >= 1);
  } finally {
    client.disconnect();
  }
}

async function startSentinel(directory: string, port: number, masterPort: number): Promise<ChildProcess> {
  const file = join(directory, `${port}.conf`);
  const settings = [
    `port ${port}`,
    `bind ${host}`,
    `dir ${directory}`,
    `sentinel monitor main ${host} ${masterPort} 2`,
    "sentinel down-after-milliseconds main 500",
    "sentinel failover-timeout main 3000",
    "sentinel parallel-syncs main 1",
  ];
  await writeFile(file, settings.join("\n"));
  return startProcess(serverBinary(), [file, "--sentinel"], { host, port });
}

async function sentinelsAgree(ports: readonly number[]): Promise<void> {
  const [port = 0] = ports;
  const client = new Redis({ host, port });
  try {
    await until("the Sentinels know each other and the replica", async () => {
      const info = String(await client.info("sentinel"));
      return info.includes("status=ok") && info.includes(`slaves=1,sentinels=${ports.length}`);
    });
  } finally {
    client.disconnect();
  }
}

async function startProcess(binary: string, args: readonly string[], where: RedisOptions): Promise<ChildProcess> {
  const child = spawn(binary, args, { stdio: ["ignore", "pipe", "inherit"] });
  const lines: string[] = [];
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    lines.push(text);
    if (lines.length > 50) lines.shift();
  });
  const client = new Redis({ ...where, retryStrategy: () => 20, maxRetriesPerRequest: null });
  client.on("error", () => {});
  const ended = once(child, "exit").then(([code]) => {
    throw new Error(`${binary} ended with ${String(code)}:\n${lines.join("")}`);
  });
  try {
    await Promise.race([
      until(`${binary} answers on port ${where.port}`, async () => (await client.ping()) === "PONG"),
      ended,
    ]);
  } finally {
    client.disconnect();
    ended.catch(() => {});
  }
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
}

/** Ports that nobody listens on. A Cluster's node also takes the port 10,000 further on. */
export async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) {
    const server = createServer().listen(0, host);
    await once(server, "listening");
    const address = server.address();
    const port = typeof address === "object" && address ? address.port : 0;
    server.close();
    await once(server, "close");
    if (port + 10_000 <= 65_535 && !ports.includes(port) && (await isFree(port + 10_000))) ports.push(port);
  }
  return ports;
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer().listen(port, host);
  try {
    await once(server, "listening");
  } catch {
    return false;
  }
  server.close();
  await once(server, "close");
  return true;
}

/** Test files run side by side, and each may find the server missing: the second waits for the first. */
const lockWait = "DPkg::Lock::Timeout=120";

let foundBinary: string | undefined;

/** valkey-server or redis-server, installed if need be. */
export function serverBinary(): string {
  foundBinary ??= findBinary() ?? installBinary();
  return foundBinary;
}

function findBinary(): string | undefined {
  const folders = (process.env["PATH"] ?? "").split(delimiter);
  const candidates = ["valkey-server", "redis-server"].flatMap((name) => folders.map((folder) => join(folder, name)));
  return candidates.find((file) => {
    try {
      accessSync(file, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

function installBinary(): string {
  const advice =
    "These tests need a Valkey server: set VALKEY_URL, start Docker, or put valkey-server or redis-server on the PATH (on Debian: apt-get install redis-server).";
  if (!existsSync("/etc/debian_version") || process.getuid?.() !== 0) throw new Error(advice);
  const environment = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  try {
    execFileSync("apt-get", ["-o", lockWait, "update", "-qq"], { env: environment, stdio: "pipe" });
    // Only the program: the package's own service is not to run.
    execFileSync(
      "apt-get",
      ["-o", lockWait, "install", "-y", "-qq", "--no-install-recommends", "redis-tools", "redis-server"],
      {
        env: { ...environment, RUNLEVEL: "1" },
        stdio: "pipe",
      },
    );
  } catch (error) {
    throw new Error(advice, { cause: error });
  }
  const binary = findBinary();
  if (!binary) throw new Error(advice);
  return binary;
}
