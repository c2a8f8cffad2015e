// Every service as a process of its own, with any number of gateways, on one Valkey.
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { stringify } from "yaml";
import { type Admin, createAdmin } from "./admin.ts";
import { entry } from "./system.ts";
import { processesOf } from "./system-processes.ts";
import { until } from "./until.ts";
import { freePorts, startValkey } from "./valkey.ts";

export interface SplitSystem extends AsyncDisposable {
  readonly gateways: readonly string[];
  /** Through the first gateway. */
  readonly admin: Admin;
  /** What all of them have printed, logs included; the last 50 million characters. */
  printed(): string;
  /** Ends a gateway at once. */
  kill(gateway: number): void;
}

export interface SplitSystemOptions {
  readonly configuration: Readonly<Record<string, unknown>>;
  readonly gateways: number;
  readonly environment?: Readonly<Record<string, string>>;
}

export const splitKeys = { api: "sk-split-system-key", admin: "sk-admin-split-system-key" };
const printedMax = 50_000_000;

export async function startSplitSystem(options: SplitSystemOptions): Promise<SplitSystem> {
  await using starting = new AsyncDisposableStack();
  const valkey = starting.use(await startValkey());
  const folder = await mkdtemp(join(tmpdir(), "drawbridge-split-"));
  starting.defer(() => rm(folder, { recursive: true, force: true }));
  await writeFile(join(folder, "drawbridge.yaml"), stringify(options.configuration));
  const [registry, scheduler, controller, ...ports] = await freePorts(3 + options.gateways);
  const local = (port: number | undefined) => `127.0.0.1:${port}`;
  const environment = {
    PATH: process.env["PATH"],
    HOME: folder,
    DRAWBRIDGE_STATE: `${valkey.url}${valkey.url.includes("?") ? "&" : "?"}prefix=split-${randomBytes(6).toString("hex")}`,
    DRAWBRIDGE_INTERNAL_TOKEN: "split-system-token",
    DRAWBRIDGE_API_KEY: splitKeys.api,
    DRAWBRIDGE_ADMIN_KEY: splitKeys.admin,
    DRAWBRIDGE_REGISTRY_URL: `http://${local(registry)}`,
    DRAWBRIDGE_SCHEDULER_URL: `http://${local(scheduler)}`,
    DRAWBRIDGE_CONTROLLER_URL: `http://${local(controller)}`,
    ...options.environment,
  };
  let printed: string[] = [];
  let size = 0;
  const start = (service: string, listen: string): ChildProcess => {
    const child = spawn(process.execPath, [entry, service, "--listen", listen], { cwd: folder, env: environment });
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        printed.push(text);
        size += text.length;
        if (size > printedMax) [printed, size] = [[], 0];
      });
    }
    return child;
  };
  const children = [start("registry", local(registry)), start("scheduler", local(scheduler))];
  children.push(start("controller", local(controller)));
  const gateways = ports.map((port) => start("gateway", local(port)));
  starting.defer(async () => {
    const all = [...gateways, ...children];
    for (const child of all) child.kill("SIGTERM");
    await Promise.all(all.map(ended));
    await until("no process is left", async () => (await processesOf(folder)).length === 0);
  });
  const urls = ports.map((port) => `http://${local(port)}`);
  try {
    for (const url of urls) await until(`${url} is ready`, () => isReady(url), { timeoutMs: 90_000 });
  } catch (error) {
    throw new Error(`The services did not come up. They printed:\n${printed.join("").slice(-20_000)}`, {
      cause: error,
    });
  }
  const admin = starting.use(createAdmin(urls[0] ?? "", splitKeys.admin));
  const resources = starting.move();
  return {
    gateways: urls,
    admin,
    printed: () => printed.join(""),
    kill: (gateway) => void gateways[gateway]?.kill("SIGKILL"),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

async function isReady(url: string): Promise<boolean> {
  return (await fetch(`${url}/readyz`).catch(() => undefined))?.ok === true;
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await new Promise((resolve) => child.once("exit", resolve));
}
