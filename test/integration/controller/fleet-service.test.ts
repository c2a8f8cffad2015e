// FleetService on a running fleet: files, pages, breakers and events.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { afterEach, describe, expect, it } from "vitest";
import { BreakerSchema, BreakerState } from "#gen/drawbridge/v1/account";
import { ActionType } from "#gen/drawbridge/v1/fleet_service";
import { until } from "../../support/until.ts";
import { account, conditionsOf, endFleets, startFleet, workersReady } from "./fleet-harness.ts";

afterEach(endFleets);

describe("FleetService", () => {
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
});
