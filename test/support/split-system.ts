// Every service as a process of its own, several of each, on one store: what `up` joins in one process. For tests that end, kill or stop some of them.
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stringify } from "yaml";
import { createAdmin } from "./admin.ts";
import { createClients, everyAccountServes, type ServingSystem } from "./serving-system.ts";
import { entry } from "./system.ts";
import { processesOf } from "./system-processes.ts";
import { until } from "./until.ts";
import { freePorts, startValkey } from "./valkey.ts";

export const serviceNames = ["registry", "scheduler", "controller", "gateway"] as const;
export type ServiceName = (typeof serviceNames)[number];

export const twoOfEach: Readonly<Record<ServiceName, number>> = {
  registry: 2,
  scheduler: 2,
  controller: 2,
  gateway: 2,
};

export interface SplitOptions {
  /** The store that they share. Default: a Valkey server, in a corner of their own. */
  readonly state?: string;
  /** The fields of drawbridge.yaml. */
  readonly configuration: Readonly<Record<string, unknown>>;
  /** How many of each. Default 1. */
  readonly counts?: Partial<Record<ServiceName, number>>;
  /** What one of them may be started with beyond that, such as another registry. */
  readonly environment?: Readonly<Record<string, string>>;
}

/** The admin services are asked through the first gateway. */
export interface SplitSystem extends ServingSystem {
  /** Addresses of the gateways. */
  readonly gateways: readonly string[];
  /** Clients of this gateway alone. */
  gateway(index: number): Pick<ServingSystem, "openai" | "request">;
  /** A service's process, such as "gateway-1". */
  pid(name: string): number;
  names(service: ServiceName): string[];
  /** Ends it with a signal, and waits until it has ended. */
  kill(name: string, signal?: NodeJS.Signals): Promise<void>;
  /** Starts it again at its address. */
  start(name: string): void;
  /** Waits until a gateway says that a model can be served. */
  ready(gateway?: number): Promise<void>;
}

/** What every gateway is started with. */
export const splitKeys = { api: "sk-split-system-key", admin: "sk-admin-split-system-key" };
/** What is kept of all that they print: enough to search whole logs. */
const printedMax = 50_000_000;
const host = "127.0.0.1";
const readyWithinMs = 60_000;
const endWithinMs = 45_000;

export async function startSplitSystem(options: SplitOptions): Promise<SplitSystem> {
  await using starting = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "drawbridge-split-"));
  starting.defer(() => rm(folder, { recursive: true, force: true }));
  await writeFile(join(folder, "drawbridge.yaml"), stringify(options.configuration));
  const state = options.state ?? (await ownCorner(starting));
  const addresses = await chooseAddresses(options.counts ?? {});
  const environment = environmentOf({ ...options, state }, folder, addresses);
  const children = new Map<string, ChildProcess>();
  let printed: string[] = [];
  let size = 0;

  const start = (name: string) => {
    const address = addresses.get(name) ?? "";
    const service = name.slice(0, name.lastIndexOf("-"));
    const child = spawn(process.execPath, [entry, service, "--listen", address, "--grace", "3s"], {
      cwd: folder,
      env: environment,
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        printed.push(text);
        size += text.length;
        if (size > printedMax) [printed, size] = [[], 0];
      });
    }
    children.set(name, child);
  };
  const kill = async (name: string, signal: NodeJS.Signals = "SIGKILL") => {
    const child = children.get(name);
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill(signal);
    await exited;
  };
  starting.defer(async () => {
    const forced = setTimeout(() => [...children.values()].forEach((child) => child.kill("SIGKILL")), endWithinMs);
    await Promise.all([...children.keys()].map((name) => kill(name, "SIGTERM")));
    clearTimeout(forced);
    await until("no process is left", async () => (await processesOf(folder)).length === 0, { timeoutMs: 30_000 });
  });
  for (const name of addresses.keys()) start(name);

  const gateways = [...addresses].flatMap(([name, address]) =>
    name.startsWith("gateway-") ? [`http://${address}`] : [],
  );
  const admin = starting.use(createAdmin(gateways[0] ?? "", splitKeys.admin));
  const waitFor = async (what: string, look: () => Promise<boolean>) => {
    try {
      await until(what, look, { timeoutMs: readyWithinMs });
    } catch (error) {
      throw new Error(`The system is not ready. It printed:\n${printed.join("").slice(-20_000)}`, { cause: error });
    }
  };
  const ready = (gateway = 0) => waitFor(`gateway ${gateway + 1} can serve`, () => isReady(gateways[gateway] ?? ""));
  for (const index of gateways.keys()) await ready(index);
  await waitFor("every account serves", () => everyAccountServes(admin));
  const resources = starting.move();
  return {
    gateways,
    urls: gateways,
    apiKey: splitKeys.api,
    adminKey: splitKeys.admin,
    folder,
    admin,
    ...createClients(gateways, splitKeys.api),
    gateway: (index) => createClients(gateways.slice(index, index + 1), splitKeys.api),
    pid: (name) => children.get(name)?.pid ?? 0,
    names: (service) => [...addresses.keys()].filter((name) => name.startsWith(`${service}-`)),
    kill,
    start,
    processes: () => processesOf(folder),
    ready,
    printed: () => printed.join(""),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

async function ownCorner(stack: AsyncDisposableStack): Promise<string> {
  const { url } = stack.use(await startValkey());
  return `${url}${url.includes("?") ? "&" : "?"}prefix=split-${randomBytes(6).toString("hex")}`;
}

async function isReady(url: string): Promise<boolean> {
  return (await fetch(`${url}/readyz`).catch(() => undefined))?.ok === true;
}

async function chooseAddresses(counts: Partial<Record<ServiceName, number>>): Promise<Map<string, string>> {
  const names = serviceNames.flatMap((service) =>
    Array.from({ length: counts[service] ?? 1 }, (_, index) => `${service}-${index + 1}`),
  );
  const ports = await freePorts(names.length);
  return new Map(names.map((name, index) => [name, `${host}:${ports[index]}`]));
}

function environmentOf(
  options: SplitOptions & { readonly state: string },
  folder: string,
  addresses: Map<string, string>,
): NodeJS.ProcessEnv {
  const all = (service: ServiceName) =>
    [...addresses]
      .flatMap(([name, address]) => (name.startsWith(`${service}-`) ? [`http://${address}`] : []))
      .join(",");
  return {
    PATH: process.env["PATH"],
    HOME: folder,
    DRAWBRIDGE_STATE: options.state,
    DRAWBRIDGE_INTERNAL_TOKEN: "split-system-test-token",
    DRAWBRIDGE_API_KEY: splitKeys.api,
    DRAWBRIDGE_ADMIN_KEY: splitKeys.admin,
    DRAWBRIDGE_REGISTRY_URL: all("registry"),
    DRAWBRIDGE_SCHEDULER_URL: all("scheduler"),
    DRAWBRIDGE_CONTROLLER_URL: all("controller"),
    ...options.environment,
  };
}
