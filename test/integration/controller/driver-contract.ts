// What every driver must do, whatever its workers run in. Each driver's test file runs it against that driver.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, fromJsonString } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type EnvValue, EnvValueSchema, type WorkerSpec, WorkerSpecSchema } from "#gen/drawbridge/v1/account";
import type { WorkerDriver, WorkerExit } from "../../../services/controller/drivers/driver.ts";
import { until } from "../../support/until.ts";

/** Where a driver's workers run. */
export interface DriverHost extends AsyncDisposable {
  /** A driver for this host: for the process driver its own, else another controller's view of the same workers. */
  driver(): WorkerDriver | Promise<WorkerDriver>;
  /** Kills a worker behind the driver's back. */
  kill(workerId: string): Promise<void> | void;
  /** What the host was asked for and does not know; a correct driver asks for nothing such. */
  readonly complaints: readonly string[];
}

export interface DriverContractOptions {
  readonly name: string;
  readonly host: (context: {
    readonly directory: string;
    readonly registryUrl: string;
    readonly token: string;
  }) => Promise<DriverHost>;
  /** Whether its workers live on without it, to be found by the next controller. */
  readonly outlives: boolean;
}

const registryUrl = "http://127.0.0.1:7071";
const token = "internal";
const unaborted = new AbortController().signal;

type Source = EnvValue["source"];

export function workerSpec(workerId: string, env: Readonly<Record<string, string | Source>> = {}): WorkerSpec {
  const source = (value: string | Source): Source => (typeof value === "string" ? { case: "value", value } : value);
  return create(WorkerSpecSchema, {
    workerId,
    accounts: [
      {
        id: "Account 1/ü",
        agent: "demo",
        models: { m: "m" },
        slots: 1,
        env: Object.fromEntries(
          Object.entries(env).map(([name, value]) => [name, create(EnvValueSchema, { source: source(value) })]),
        ),
      },
    ],
    generations: { "Account 1/ü": 3n },
    epoch: 1n,
  });
}

export function driverContract({ name, host: startHost, outlives }: DriverContractOptions): void {
  describe(`${name}: the drivers' contract`, () => {
    let resources: AsyncDisposableStack;
    let directory: string;
    let host: DriverHost;
    let driver: WorkerDriver;
    let exits: WorkerExit[];

    beforeEach(async () => {
      resources = new AsyncDisposableStack();
      directory = await mkdtemp(join(tmpdir(), "drawbridge-driver-"));
      resources.defer(() => rm(directory, { recursive: true, force: true }));
      host = resources.use(await startHost({ directory, registryUrl, token }));
      exits = [];
      driver = await open(exits);
    });

    afterEach(async () => {
      const { complaints } = host;
      await resources.disposeAsync();
      expect(complaints).toEqual([]);
    });

    async function open(told: WorkerExit[] = []): Promise<WorkerDriver> {
      const opened = resources.use(await host.driver());
      opened.onExit((exit) => told.push(exit));
      return opened;
    }

    const ids = async (of: WorkerDriver) => (await of.list()).map(({ workerId }) => workerId).toSorted();

    async function report(file: string) {
      const text = await until("the worker has reported", async () => (await readFile(file, "utf8")) || undefined);
      return JSON.parse(text) as { arguments: string[]; environment: Record<string, string>; pid: number };
    }

    it("runs a worker with its specification, the way to the registry and the token", async () => {
      const file = join(directory, "report");
      const spec = workerSpec("Acc_1-1", { REPORT: file });
      const before = Date.now() - 2_000;
      await driver.create(spec, 1, unaborted);
      const [listed, ...others] = await driver.list();
      expect(others).toEqual([]);
      expect(listed).toMatchObject({ workerId: "Acc_1-1", spec });
      expect(listed?.startedAt).toBeGreaterThanOrEqual(before);
      expect(listed?.startedAt).toBeLessThanOrEqual(Date.now() + 2_000);
      const { arguments: given, environment } = await report(file);
      expect(given[0]).toBe("worker");
      expect(fromJsonString(WorkerSpecSchema, environment["DRAWBRIDGE_WORKER_SPEC"] ?? "")).toEqual(spec);
      expect(environment).toMatchObject({ DRAWBRIDGE_REGISTRY_URL: registryUrl, DRAWBRIDGE_INTERNAL_TOKEN: token });
      expect(environment["DRAWBRIDGE_DETACHED"] === "1").toBe(outlives);
    });

    it("leaves a worker alone that runs already", async () => {
      const file = join(directory, "report");
      await driver.create(workerSpec("a-1", { REPORT: file }), 1, unaborted);
      const { pid } = await report(file);
      await driver.create(workerSpec("a-1", { REPORT: file }), 1, unaborted);
      expect(await ids(driver)).toEqual(["a-1"]);
      expect((await report(file)).pid).toBe(pid);
      expect(() => process.kill(pid, 0)).not.toThrow();
    });

    it("tells of a worker that was killed, once, and starts another of the same name", async () => {
      await driver.create(workerSpec("a-1"), 1, unaborted);
      await driver.create(workerSpec("a-2"), 1, unaborted);
      await host.kill("a-1");
      await until("the exit is told", () => exits.length > 0);
      expect(exits[0]).toMatchObject({ workerId: "a-1", requested: false, spec: { workerId: "a-1" } });
      expect(await ids(driver)).toEqual(["a-2"]);
      await driver.create(workerSpec("a-1"), 1, unaborted);
      expect(await ids(driver)).toEqual(["a-1", "a-2"]);
      expect(exits).toHaveLength(1);
    });

    it("tells how a worker ended that gave up by itself", async () => {
      await driver.create(workerSpec("a-1", { EXIT: "3" }), 1, unaborted);
      await until("the exit is told", () => exits.length > 0);
      expect(exits).toMatchObject([{ workerId: "a-1", code: 3, requested: false }]);
    });

    it("destroys a worker, and then it is gone; an unknown one is no error", async () => {
      const file = join(directory, "report");
      await driver.create(workerSpec("a-1", { REPORT: file }), 1, unaborted);
      const { pid } = await report(file);
      await driver.destroy("a-1", 1);
      expect(() => process.kill(pid, 0)).toThrow("ESRCH");
      expect(await ids(driver)).toEqual([]);
      await until("the exit is told", () => exits.length > 0);
      expect(exits).toMatchObject([{ workerId: "a-1", requested: true }]);
      await driver.destroy("a-1", 1);
      await driver.destroy("never", 1);
    });

    it("destroys a worker that hears nothing", async () => {
      const file = join(directory, "report");
      await driver.create(workerSpec("a-1", { STUBBORN: "1", REPORT: file }), 1, unaborted);
      const { pid } = await report(file);
      await driver.destroy("a-1", 1);
      expect(() => process.kill(pid, 0)).toThrow("ESRCH");
    });

    it("refuses a leader that has been replaced, and does nothing for it", async () => {
      await driver.create(workerSpec("a-1"), 2, unaborted);
      await expect(driver.create(workerSpec("a-2"), 1, unaborted)).rejects.toMatchObject({ reason: "NOT_LEADER" });
      await expect(driver.destroy("a-1", 1)).rejects.toMatchObject({ reason: "NOT_LEADER" });
      expect(await ids(driver)).toEqual(["a-1"]);
    });

    it("refuses leaders that were replaced by one which did nothing but begin", async () => {
      await driver.create(workerSpec("a-1"), 1, unaborted);
      await driver.claim(3, unaborted);
      await driver.claim(3, unaborted);
      await expect(driver.claim(2, unaborted)).rejects.toMatchObject({ reason: "NOT_LEADER" });
      await expect(driver.create(workerSpec("a-2"), 2, unaborted)).rejects.toMatchObject({ reason: "NOT_LEADER" });
      await expect(driver.destroy("a-1", 2)).rejects.toMatchObject({ reason: "NOT_LEADER" });
      expect(await ids(driver)).toEqual(["a-1"]);
      await driver.destroy("a-1", 3);
    });

    it.runIf(outlives)(
      "refuses them in whichever controller they come, also where nothing is left to run",
      async () => {
        await driver.create(workerSpec("a-1"), 1, unaborted);
        await driver.destroy("a-1", 2);
        const stale = await open();
        await expect(stale.create(workerSpec("a-1"), 1, unaborted)).rejects.toMatchObject({ reason: "NOT_LEADER" });
        await (await open()).claim(3, unaborted);
        await expect(stale.create(workerSpec("a-1"), 2, unaborted)).rejects.toMatchObject({ reason: "NOT_LEADER" });
        await driver[Symbol.asyncDispose]();
        await expect((await open()).claim(2, unaborted)).rejects.toMatchObject({ reason: "NOT_LEADER" });
        expect(await ids(stale)).toEqual([]);
        await stale.create(workerSpec("a-1"), 3, unaborted);
      },
    );

    it("starts nothing when the right to act has ended", async () => {
      await expect(driver.create(workerSpec("a-1"), 1, AbortSignal.abort())).rejects.toThrow();
      expect(await ids(driver)).toEqual([]);
    });

    it.runIf(outlives)("finds the workers that another controller started, and hears of their ends", async () => {
      const spec = workerSpec("a-1");
      await driver.create(spec, 2, unaborted);
      await driver[Symbol.asyncDispose]();
      const told: WorkerExit[] = [];
      const next = await open(told);
      expect(await next.list()).toMatchObject([{ workerId: "a-1", spec }]);
      await expect(next.create(workerSpec("a-2"), 1, unaborted)).rejects.toMatchObject({ reason: "NOT_LEADER" });
      await host.kill("a-1");
      await until("the exit is told", () => told.length > 0);
      expect(told).toMatchObject([{ workerId: "a-1", requested: false }]);
    });

    it.runIf(!outlives)("leaves no worker when it ends, and starts none any more", async () => {
      const file = join(directory, "report");
      await driver.create(workerSpec("a-1", { REPORT: file }), 1, unaborted);
      const { pid } = await report(file);
      await driver[Symbol.asyncDispose]();
      expect(() => process.kill(pid, 0)).toThrow("ESRCH");
      await expect(driver.create(workerSpec("a-2"), 1, unaborted)).rejects.toMatchObject({ reason: "DRAINING" });
    });
  });
}
