// The process driver with real child processes.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, fromJsonString } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type WorkerSpec, WorkerSpecSchema } from "#gen/drawbridge/v1/account";
import type { WorkerDriver, WorkerExit } from "../../../services/controller/drivers/driver.ts";
import { createProcessDriver, type ProcessDriverOptions } from "../../../services/controller/drivers/process.ts";
import { systemClock } from "../../../services/kit/clock.ts";
import { silentLog } from "../../../services/kit/log.ts";
import { until } from "../../support/until.ts";
import { driverContract } from "./driver-contract.ts";

const program = join(import.meta.dirname, "program.ts");
const unaborted = new AbortController().signal;

let resources = new AsyncDisposableStack();
let directory = "";

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "drawbridge-driver-"));
  resources.defer(() => rm(directory, { recursive: true, force: true }));
});

afterEach(async () => {
  await resources.disposeAsync();
  resources = new AsyncDisposableStack();
});

function startDriver(options: Partial<ProcessDriverOptions> = {}) {
  const driver = resources.use(
    createProcessDriver({
      entry: program,
      registryUrl: () => "http://127.0.0.1:7071",
      token: "internal",
      directory,
      log: silentLog,
      clock: systemClock,
      graceMs: 2_000,
      terminateMs: 200,
      ...options,
    }),
  );
  const exits: WorkerExit[] = [];
  driver.onExit((exit) => exits.push(exit));
  return { driver, exits };
}

function workerSpec(workerId: string, env: Record<string, object> = {}): WorkerSpec {
  return create(WorkerSpecSchema, {
    workerId,
    accounts: [{ id: "a", agent: "demo", models: { m: "m" }, slots: 1, env: env as never }],
    generations: { a: 3n },
  });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function report(file: string) {
  const text = await until("the program has reported", () => readFile(file, "utf8"));
  return JSON.parse(text) as { arguments: string[]; environment: Record<string, string>; pid: number };
}

driverContract({
  name: "process",
  outlives: false,
  async host({ directory: own, registryUrl, token }) {
    const created: WorkerDriver[] = [];
    return {
      complaints: [],
      driver() {
        const driver = createProcessDriver({
          entry: join(import.meta.dirname, "contract-worker.ts"),
          registryUrl: () => registryUrl,
          token,
          directory: own,
          log: silentLog,
          clock: systemClock,
          graceMs: 2_000,
          terminateMs: 200,
        });
        created.push(driver);
        return driver;
      },
      async kill(workerId) {
        const processes = (await Promise.all(created.map((driver) => driver.list()))).flat();
        process.kill(processes.find((each) => each.workerId === workerId)?.pid ?? 0, "SIGKILL");
      },
      [Symbol.asyncDispose]: async () => {},
    };
  },
});

describe("process driver", () => {
  it("gives a worker its specification, the way to the registry, and of other variables only those that it needs", async () => {
    const file = join(directory, "report");
    const { driver } = startDriver({
      arguments: ["--config", "x.yaml"],
      environment: { PATH: process.env["PATH"], SEAT_KEY: "s3cret", OTHER_KEY: "other", FILE: "x" },
      workerEnvironment: { REPORT: file },
    });
    const spec = workerSpec("a-1", { KIRO_API_KEY: { source: { case: "fromEnv", value: "SEAT_KEY" } } });
    await driver.create(spec, 1, unaborted);

    const { arguments: given, environment } = await report(file);
    expect(given).toEqual(["worker", "--config", "x.yaml"]);
    expect(fromJsonString(WorkerSpecSchema, environment["DRAWBRIDGE_WORKER_SPEC"] ?? "")).toEqual(spec);
    expect(environment).toMatchObject({
      DRAWBRIDGE_REGISTRY_URL: "http://127.0.0.1:7071",
      DRAWBRIDGE_INTERNAL_TOKEN: "internal",
      DRAWBRIDGE_DIRECTORY: directory,
      SEAT_KEY: "s3cret",
    });
    expect(environment).not.toHaveProperty("OTHER_KEY");
    expect(environment).not.toHaveProperty("FILE");
  });

  it("leaves no process when it is disposed, and starts none any more", async () => {
    const { driver } = startDriver({ workerEnvironment: { STUBBORN: "1" }, graceMs: 100 });
    await driver.create(workerSpec("a-1"), 1, unaborted);
    await driver.create(workerSpec("a-2"), 1, unaborted);
    const pids = (await driver.list()).map(({ pid }) => pid);
    await driver[Symbol.asyncDispose]();
    expect(pids.filter(isAlive)).toEqual([]);
    await expect(driver.create(workerSpec("a-3"), 1, unaborted)).rejects.toMatchObject({ reason: "DRAINING" });
  });

  it("leaves no worker behind when its own process is killed", async () => {
    const file = join(directory, "report");
    const host = spawn(process.execPath, [join(import.meta.dirname, "driver-host.ts"), program, directory, file], {
      stdio: "ignore",
    });
    resources.defer(() => void host.kill("SIGKILL"));
    const { pid } = await report(file);
    expect(isAlive(pid)).toBe(true);
    const exited = once(host, "exit");
    host.kill("SIGKILL");
    await exited;
    await until("the worker has ended", () => !isAlive(pid));
  });

  it("keeps what a worker writes, in files of bounded size", async () => {
    const { driver, exits } = startDriver({ workerEnvironment: { WRITE_BYTES: String(16 << 20) } });
    await driver.create(workerSpec("a/1"), 1, unaborted);
    const logs = join(directory, "logs");
    await until("the log was rotated", async () => (await readdir(logs)).length === 2);
    await driver.destroy("a/1", 1);
    await until("it has ended", () => exits.length === 1);
    const names = (await readdir(logs)).sort();
    expect(names).toEqual(["worker-a_1.log", "worker-a_1.log.1"]);
    for (const name of names) expect((await stat(join(logs, name))).size).toBeLessThanOrEqual(5 << 20);
  });

  it("says why a worker could not be started", async () => {
    const { driver } = startDriver();
    const env = { BIG: { source: { case: "value", value: "x".repeat(200_000) } } };
    const refused = driver.create(workerSpec("a-1", env), 1, unaborted);
    await expect(refused).rejects.toMatchObject({ reason: "INVALID_ARGUMENT" });
    expect(await driver.list()).toEqual([]);
  });
});
