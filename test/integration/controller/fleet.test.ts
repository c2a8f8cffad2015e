// The controller on the embedded store, with the registry, the process driver and worker processes without agents.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, type MessageInitShape, toJsonString } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { afterEach, describe, expect, it } from "vitest";
import {
  type AccountSpec,
  AccountSpecSchema,
  BreakerSchema,
  BreakerState,
  WorkerSpecSchema,
} from "#gen/drawbridge/v1/account";
import { ActionType, FleetService } from "#gen/drawbridge/v1/fleet_service";
import { RegistryService } from "#gen/drawbridge/v1/registry_service";
import { Health, WorkerSchema } from "#gen/drawbridge/v1/worker";
import { WorkerService } from "#gen/drawbridge/v1/worker_service";
import { type ControllerAppDependencies, createControllerApp } from "../../../services/controller/app.ts";
import { controllerSettings } from "../../../services/controller/config.ts";
import { createProcessDriver } from "../../../services/controller/drivers/process.ts";
import { systemClock } from "../../../services/kit/clock.ts";
import { silentLog } from "../../../services/kit/log.ts";
import { systemRandom } from "../../../services/kit/random.ts";
import { createDialer } from "../../../services/kit/rpc/client.ts";
import { internalTokenOnly } from "../../../services/kit/rpc/internal-token.ts";
import { localClient } from "../../../services/kit/rpc/local.ts";
import { mount, startRpcServer } from "../../../services/kit/rpc/server.ts";
import { parseSettings } from "../../../services/kit/settings.ts";
import { createRegistryApp } from "../../../services/registry/app.ts";
import { registrySettings } from "../../../services/registry/config.ts";
import { openState } from "../../../services/state/open.ts";
import type { State } from "../../../services/state/state.ts";
import { until } from "../../support/until.ts";

const token = "internal-token";
const entry = join(import.meta.dirname, "worker-program.ts");

let resources = new AsyncDisposableStack();
afterEach(async () => {
  await resources.disposeAsync();
  resources = new AsyncDisposableStack();
});

async function startFleet(
  settings: object = {},
  extra: Partial<ControllerAppDependencies> = {},
  before: (state: State, registryUrl: string) => Promise<void> = async () => {},
) {
  const directory = await mkdtemp(join(tmpdir(), "drawbridge-fleet-"));
  resources.defer(() => rm(directory, { recursive: true, force: true }));
  const common = { clock: systemClock, random: systemRandom, log: silentLog };
  const state = resources.use(await openState("sqlite::memory:", { log: silentLog }));
  const registryConfig = parseSettings(registrySettings, {}, "test");
  const registryApp = resources.use(createRegistryApp({ ...common, state, config: registryConfig }));
  const server = resources.use(
    await startRpcServer({
      listen: { host: "127.0.0.1", port: 0 },
      services: [mount(RegistryService, registryApp.service)],
      authorize: internalTokenOnly(token),
      ready: () => true,
      log: silentLog,
    }),
  );
  const dialer = resources.use(createDialer({ token }));
  const registryUrl = () => server.address;
  const driver = resources.use(
    createProcessDriver({ entry, registryUrl, token, directory, log: silentLog, clock: systemClock, graceMs: 3_000 }),
  );
  const config = parseSettings(
    controllerSettings,
    {
      resync: "1s",
      health_interval: "200ms",
      health_timeout: "500ms",
      leader_retry: "100ms",
      backoff: "200ms",
      registry_caution: "100ms",
      ...settings,
    },
    "test",
  );
  const dependencies: ControllerAppDependencies = {
    ...common,
    state,
    config,
    agents: [],
    profiles: ["demo", "kiro"],
    registry: localClient(RegistryService, registryApp.service),
    worker: (address) => dialer.client(WorkerService, address, { unreachable: "WORKER_UNREACHABLE" }),
    driver,
    ...extra,
  };
  const app = resources.use(createControllerApp(dependencies));
  await registryApp.start();
  await before(state, server.address);
  await app.start();
  const fleet = localClient(FleetService, app.service);
  return { fleet, state, driver, app, dependencies };
}

type Fleet = Awaited<ReturnType<typeof startFleet>>["fleet"];

function account(
  id: string,
  fields: Partial<Omit<MessageInitShape<typeof AccountSpecSchema>, "$typeName">> = {},
): AccountSpec {
  return create(AccountSpecSchema, {
    id,
    agent: "demo",
    models: { m: "m" },
    initialMillicredits: 10_000n,
    millicreditsPerRequest: 1_000n,
    slots: 2,
    queue: 4,
    workers: { min: 1, max: 1 },
    ...fields,
  });
}

/** Starts a worker without a driver; its exit. */
function startByHand(spec: AccountSpec, registryUrl: string): Promise<unknown[]> {
  const child = spawn(process.execPath, [entry, "worker"], {
    stdio: ["pipe", "ignore", "inherit"],
    env: {
      PATH: process.env["PATH"],
      DRAWBRIDGE_WORKER_SPEC: toJsonString(
        WorkerSpecSchema,
        create(WorkerSpecSchema, { workerId: "by-hand", accounts: [spec] }),
      ),
      DRAWBRIDGE_REGISTRY_URL: registryUrl,
      DRAWBRIDGE_INTERNAL_TOKEN: token,
    },
  });
  resources.defer(() => void child.kill("SIGKILL"));
  return once(child, "exit");
}

async function conditionsOf(fleet: Fleet, id: string): Promise<Record<string, boolean>> {
  const { account: found } = await fleet.getAccount({ id });
  return Object.fromEntries((found?.conditions ?? []).map(({ type, status }) => [type, status]));
}

async function workersReady(fleet: Fleet, id: string, count: number) {
  return await until(`account ${id} is ready with ${count} workers`, async () => {
    const { workers } = await fleet.getStatus({});
    const mine = workers.filter(({ pools }) => pools.some(({ accountId }) => accountId === id));
    const { Ready } = await conditionsOf(fleet, id);
    return mine.length === count && (count === 0 || Ready) && mine;
  });
}

describe("controller", () => {
  it("makes a desired account true, says so, and replaces a worker that was killed", async () => {
    const { fleet } = await startFleet();
    await fleet.createAccount({ spec: account("a") });
    const [first] = await workersReady(fleet, "a", 1);
    expect(first?.id).toBe("a-1");
    process.kill(first?.pid ?? 0, "SIGKILL");
    const [second] = await until("another process runs", async () => {
      const { workers } = await fleet.getStatus({});
      return workers.length === 1 && workers[0]?.incarnation !== first?.incarnation && workers;
    });
    expect(second?.id).toBe("a-1");
    const { leader, accounts } = await fleet.getStatus({});
    expect(leader).not.toBe("");
    expect(accounts[0]).toMatchObject({ workerIds: ["a-1"], managedBy: "api" });
    expect((await fleet.plan({})).actions).toEqual([]);
  });

  it("replaces a worker that does not answer", async () => {
    const { fleet } = await startFleet();
    await fleet.createAccount({ spec: account("a") });
    const [first] = await workersReady(fleet, "a", 1);
    process.kill(first?.pid ?? 0, "SIGSTOP");
    await until("another process runs", async () => {
      const { workers } = await fleet.getStatus({});
      return workers.some(({ incarnation }) => incarnation !== first?.incarnation);
    });
  });

  it("rolls a changed account: the old worker goes when the new one is ready, and only then", async () => {
    const { fleet } = await startFleet();
    await fleet.createAccount({ spec: account("a") });
    const [first] = await workersReady(fleet, "a", 1);
    const broken = account("a", { env: { BEHAVIOUR: { source: { case: "value", value: "never-healthy" } } } });
    await fleet.updateAccount({ spec: broken });
    const both = await workersReady(fleet, "a", 2);
    expect(both.map(({ id }) => id)).toEqual(["a-1", "a-2"]);
    await fleet.reconcile({});
    expect((await workersReady(fleet, "a", 2))[0]?.incarnation).toBe(first?.incarnation);

    await fleet.updateAccount({ spec: account("a", { slots: 3 }) });
    const [last] = await until("only the newest runs", async () => {
      const { workers } = await fleet.getStatus({});
      return workers.length === 1 && workers[0]?.pools[0]?.slots === 3 && workers;
    });
    expect(last?.pools[0]?.generation).toBe(3n);
  });

  it("starts nothing anew for a change that concerns no worker", async () => {
    const { fleet } = await startFleet();
    await fleet.createAccount({ spec: account("a") });
    const [first] = await workersReady(fleet, "a", 1);
    await fleet.updateAccount({
      spec: account("a", { workers: { min: 2, max: 3 } }),
      updateMask: { paths: ["workers"] },
    });
    const both = await workersReady(fleet, "a", 2);
    expect(both[0]?.incarnation).toBe(first?.incarnation);
  });

  it("has no workers without credits, and has them back with credits", async () => {
    const { fleet } = await startFleet();
    await fleet.createAccount({ spec: account("a") });
    await workersReady(fleet, "a", 1);
    const { credits } = await fleet.setCredits({ accountId: "a", available: 500n });
    expect(credits).toMatchObject({ available: 500n });
    await workersReady(fleet, "a", 0);
    expect(
      await until("the condition says so", async () => {
        const conditions = await conditionsOf(fleet, "a");
        return conditions["CreditsExhausted"] && conditions;
      }),
    ).toMatchObject({ Ready: false });
    await fleet.grantCredits({ accountId: "a", millicredits: 5_000n, grantId: "g1" });
    const again = await fleet.grantCredits({ accountId: "a", millicredits: 5_000n, grantId: "g1" });
    expect(again.credits?.available).toBe(5_500n);
    await workersReady(fleet, "a", 1);
  });

  it("starts a worker when a request waits for the model, and ends it when nobody has asked for a while", async () => {
    const settings = { scale_to_zero_after: "300ms", scale_cooldown: "100ms" };
    const { fleet, state } = await startFleet(settings);
    await fleet.createAccount({ spec: account("a", { workers: { min: 0, max: 2 } }) });
    await fleet.createAccount({ spec: account("b", { models: { other: "x" }, workers: { min: 0, max: 2 } }) });
    await fleet.reconcile({});
    expect((await fleet.getStatus({})).workers).toEqual([]);

    await state.demand.report("scheduler", "m", 1, 60_000, systemClock.now());
    await workersReady(fleet, "a", 1);
    await state.demand.report("scheduler", "m", 0, 60_000, systemClock.now());
    await workersReady(fleet, "a", 0);
    expect((await fleet.getAccount({ id: "b" })).account?.workerIds).toEqual([]);
  });

  it("drains the worker of a deleted account, and a worker that a person drains comes back", async () => {
    const { fleet } = await startFleet();
    await fleet.createAccount({ spec: account("a") });
    const [first] = await workersReady(fleet, "a", 1);
    await fleet.drainWorker({ workerId: "a-1" });
    await until("another worker runs", async () => {
      const { workers } = await fleet.getStatus({});
      return workers.length === 1 && workers[0]?.incarnation !== first?.incarnation;
    });
    await fleet.deleteAccount({ id: "a" });
    await until("no worker runs", async () => (await fleet.getStatus({})).workers.length === 0);
    await expect(fleet.getAccount({ id: "a" })).rejects.toMatchObject({ reason: "NOT_FOUND" });
    await expect(fleet.drainWorker({ workerId: "a-1" })).rejects.toMatchObject({ reason: "NOT_FOUND" });
  });

  it("waits longer and longer for a worker that always crashes, and says so", async () => {
    const { fleet, driver } = await startFleet();
    let exits = 0;
    driver.onExit(() => exits++);
    await fleet.createAccount({
      spec: account("a", { env: { BEHAVIOUR: { source: { case: "value", value: "crash" } } } }),
    });
    await until("it is degraded", async () => (await conditionsOf(fleet, "a"))["Degraded"]);
    const { account: found } = await fleet.getAccount({ id: "a" });
    const degraded = found?.conditions.find(({ type }) => type === "Degraded");
    expect(degraded).toMatchObject({
      reason: "WorkersFailing",
      message: expect.stringContaining("exit code 3") as string,
    });
    expect(exits).toBeGreaterThanOrEqual(2);

    await fleet.updateAccount({ spec: account("a") });
    await workersReady(fleet, "a", 1);
  });

  it("applies a file: creates, updates and deletes what the file manages, and refuses what it does not", async () => {
    const { fleet } = await startFleet(
      {},
      { accounts: [account("f1"), account("f2", { workers: { min: 0, max: 1 } })] },
    );
    await fleet.createAccount({ spec: account("byhand", { workers: { min: 0, max: 1 } }) });
    await workersReady(fleet, "f1", 1);

    const next = [account("f1"), account("f3", { workers: { min: 0, max: 1 } })];
    const planned = await fleet.plan({ accounts: { specs: [account("f4")] } });
    expect(planned.actions.map(({ type, workerId }) => [type, workerId])).toEqual([
      [ActionType.DRAIN, "f1-1"],
      [ActionType.CREATE, "f4-1"],
    ]);
    expect(await fleet.applyAccounts({ specs: next })).toMatchObject({
      created: ["f3"],
      updated: [],
      deleted: ["f2"],
      unchanged: ["f1"],
    });
    expect(await fleet.applyAccounts({ specs: next })).toMatchObject({
      created: [],
      deleted: [],
      unchanged: ["f1", "f3"],
    });
    await expect(fleet.applyAccounts({ specs: [account("byhand")] })).rejects.toMatchObject({
      reason: "ALREADY_EXISTS",
    });
    await expect(fleet.applyAccounts({ specs: [account("x"), account("x")] })).rejects.toMatchObject({
      reason: "INVALID_ARGUMENT",
    });
  });

  it("pages accounts, changes only masked fields, and names the agents it knows", async () => {
    const { fleet } = await startFleet();
    const parked = { workers: { min: 0, max: 1 } };
    for (const id of ["a", "b", "c"]) await fleet.createAccount({ spec: account(id, parked) });
    const first = await fleet.listAccounts({ pageSize: 2 });
    const second = await fleet.listAccounts({ pageSize: 2, pageToken: first.nextPageToken });
    expect([first, second].map(({ accounts }) => accounts.map(({ spec }) => spec?.id))).toEqual([["a", "b"], ["c"]]);
    expect(second.nextPageToken).toBe("");
    await expect(fleet.listAccounts({ pageToken: "?" })).rejects.toMatchObject({ reason: "INVALID_ARGUMENT" });

    const changes = account("a", { slots: 7, queue: 9 });
    const { account: changed } = await fleet.updateAccount({ spec: changes, updateMask: { paths: ["slots"] } });
    expect(changed?.spec).toMatchObject({ slots: 7, queue: 4, workers: parked.workers });
    const stale = fleet.updateAccount({ spec: changes, revision: 1n });
    await expect(stale).rejects.toMatchObject({ reason: "REVISION_CONFLICT" });
    const unknownField = fleet.updateAccount({ spec: changes, updateMask: { paths: ["colour"] } });
    await expect(unknownField).rejects.toMatchObject({
      reason: "INVALID_ARGUMENT",
      message: expect.stringContaining("colour") as string,
    });
    await expect(fleet.createAccount({ spec: account("d", { agent: "nobody" }) })).rejects.toMatchObject({
      reason: "INVALID_ARGUMENT",
      message: expect.stringContaining("demo, kiro") as string,
    });
    await expect(fleet.createAccount({ spec: account("a") })).rejects.toMatchObject({ reason: "ALREADY_EXISTS" });
  });

  it("shows breakers, and closes one", async () => {
    const { fleet, state } = await startFleet();
    await fleet.createAccount({ spec: account("a", { workers: { min: 0, max: 1 } }) });
    const open = { accountId: "a", state: BreakerState.OPEN, reason: "Login refused.", changedAt: timestampFromMs(1) };
    await state.breakers.compareAndSet(create(BreakerSchema, open));
    await until("it counts as refused", async () => (await conditionsOf(fleet, "a"))["Unauthorized"]);
    expect((await fleet.listBreakers({})).breakers).toMatchObject([{ accountId: "a", state: BreakerState.OPEN }]);
    const { breaker } = await fleet.resetBreaker({ accountId: "a" });
    expect(breaker).toMatchObject({ state: BreakerState.CLOSED, reason: "", openings: 0 });
    await until("it does not any more", async () => (await conditionsOf(fleet, "a"))["Unauthorized"] === false);
    await expect(fleet.resetBreaker({ accountId: "x" })).rejects.toMatchObject({ reason: "NOT_FOUND" });
  });

  it("tells what happened after a revision, then what happens, in order and without gaps", async () => {
    const { fleet } = await startFleet();
    await fleet.createAccount({ spec: account("a", { workers: { min: 0, max: 1 } }) });
    const stop = new AbortController();
    const types: string[] = [];
    const revisions: number[] = [];
    const watching = (async () => {
      for await (const { event } of fleet.watchEvents({ afterRevision: 1n }, { signal: stop.signal })) {
        if (!event) continue;
        types.push(`${event.type} ${event.accountId}`);
        revisions.push(Number(event.revision));
      }
    })();
    watching.catch(() => {});
    await until("the past is told", () => types.includes("AccountCreated a"));
    await fleet.createAccount({ spec: account("b", { workers: { min: 0, max: 1 } }) });
    await fleet.deleteAccount({ id: "a" });
    await until("the present is told", () => types.includes("AccountCreated b") && types.includes("AccountDeleted a"));
    expect(revisions).toEqual(revisions.map((_, index) => (revisions[0] ?? 0) + index));
    stop.abort();
    await expect(watching).rejects.toMatchObject({ reason: "CANCELLED" });
  });

  it("does not count on a worker that an earlier run left in the registry", async () => {
    const { fleet, state } = await startFleet();
    const pools = [{ accountId: "a", models: ["m"], slots: 1, health: Health.HEALTHY }];
    const ghost = { id: "a-1", incarnation: "old", address: "http://127.0.0.1:1", health: Health.HEALTHY, pools };
    await state.workers.put(create(WorkerSchema, ghost), 60_000, systemClock.now());
    await fleet.createAccount({ spec: account("a") });
    await until("a living worker runs, and only that", async () => {
      const { workers } = await fleet.getStatus({});
      return workers.length === 1 && workers[0]?.incarnation !== "old";
    });
  });

  it("adopts a worker that ran before, and drains it when nobody wants it", async () => {
    let exited: Promise<unknown[]> | undefined;
    const { fleet, driver } = await startFleet({}, { accounts: [account("a")] }, async (state, registryUrl) => {
      exited = startByHand(account("a"), registryUrl);
      await until("it is registered", async () => (await state.workers.list(systemClock.now())).workers.length === 1);
    });
    const [adopted] = await workersReady(fleet, "a", 1);
    expect(adopted?.id).toBe("by-hand");
    expect(await driver.list()).toEqual([]);
    await fleet.deleteAccount({ id: "a" });
    expect(await exited).toEqual([0, null]);
  });

  it("lets one controller act at a time; another one takes over when the first ends", async () => {
    const first = await startFleet();
    const second = createControllerApp({
      ...first.dependencies,
      identity: { owner: "second", isGone: () => false },
    });
    resources.use(second);
    await second.start();
    const fleet = localClient(FleetService, second.service);
    await expect(fleet.reconcile({})).rejects.toMatchObject({ reason: "NOT_LEADER" });
    await fleet.createAccount({ spec: account("a") });
    await workersReady(first.fleet, "a", 1);
    await first.app[Symbol.asyncDispose]();
    const { actions } = await until("it leads", async () => await fleet.reconcile({}));
    expect(actions).toEqual([]);
  });

  it("leaves no worker when it and its driver end", async () => {
    const { fleet, app, driver } = await startFleet();
    await fleet.createAccount({ spec: account("a", { workers: { min: 2, max: 2 } }) });
    const workers = await workersReady(fleet, "a", 2);
    await app[Symbol.asyncDispose]();
    await driver[Symbol.asyncDispose]();
    for (const { pid } of workers) expect(() => process.kill(pid, 0)).toThrow("ESRCH");
  });
});
