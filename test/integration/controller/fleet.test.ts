// The controller makes desired accounts true: real workers start, are replaced, roll, scale, are adopted and end.
import { create } from "@bufbuild/protobuf";
import { afterEach, describe, expect, it } from "vitest";
import { FleetService } from "#gen/drawbridge/v1/fleet_service";
import { Health, WorkerSchema } from "#gen/drawbridge/v1/worker";
import { createControllerApp } from "../../../services/controller/app.ts";
import { systemClock } from "../../../services/kit/clock.ts";
import { localClient } from "../../../services/kit/rpc/local.ts";
import { until } from "../../support/until.ts";
import { account, conditionsOf, endFleets, startByHand, startFleet, use, workersReady } from "./fleet-harness.ts";

afterEach(endFleets);

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

  it("rolls without a worker too many where one may be missing", async () => {
    const { fleet, driver } = await startFleet({ surge: 0, unavailable: 1 });
    await fleet.createAccount({ spec: account("a", { workers: { min: 2, max: 2 } }) });
    const before = new Set((await workersReady(fleet, "a", 2)).map(({ incarnation }) => incarnation));
    await fleet.updateAccount({ spec: account("a", { slots: 5, workers: { min: 2, max: 2 } }) });
    let most = 0;
    await until("both workers are others", async () => {
      most = Math.max(most, (await driver.list()).length);
      const { workers } = await fleet.getStatus({});
      return workers.length === 2 && workers.every(({ incarnation }) => !before.has(incarnation));
    });
    expect(most).toBe(2);
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
    use(second);
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
