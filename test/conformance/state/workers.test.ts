import { timestampMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { Health } from "#gen/drawbridge/v1/worker";
import type { State } from "../../../services/state/state.ts";
import { hostileIds, t0, worker } from "./given.ts";
import { conformance } from "./implementations.ts";

const ttlMs = 15_000;

conformance("worker directory", (create) => {
  test("a worker that is put is listed, with what the directory adds", async () => {
    await using store = await create();
    const { state } = store;
    const put = await state.workers.put(worker(), ttlMs, t0);
    const { workers, revision } = await state.workers.list(t0);
    expect(workers).toEqual([put]);
    expect(put).toMatchObject({ id: "w", incarnation: "w-1", address: "http://127.0.0.1:1", health: Health.HEALTHY });
    expect(put.pools).toEqual(worker().pools);
    expect(timesOf(put)).toEqual({ registeredAt: t0, expiresAt: t0 + ttlMs });
    expect(put.revision > 0n && put.revision <= BigInt(revision)).toBe(true);
  });

  test("is alive until its lease ends, and not at that moment", async () => {
    await using store = await create();
    const { state } = store;
    await state.workers.put(worker(), ttlMs, t0);
    expect(await idsAt(state, t0 + ttlMs - 1)).toEqual(["w"]);
    expect(await idsAt(state, t0 + ttlMs)).toEqual([]);
    expect(await state.workers.beat(worker(), ttlMs, t0 + ttlMs)).toBe(false);
  });

  test("a beat renews the lease; one that changes nothing leaves the revision", async () => {
    await using store = await create();
    const { state } = store;
    await state.workers.put(worker(), ttlMs, t0);
    const before = await state.workers.list(t0);
    expect(await state.workers.beat(worker(), ttlMs, t0 + 10_000)).toBe(true);
    const after = await state.workers.list(t0 + 20_000);
    expect(after.revision).toBe(before.revision);
    expect(after.workers[0]?.revision).toBe(before.workers[0]?.revision);
    expect(timesOf(after.workers[0])).toEqual({ registeredAt: t0, expiresAt: t0 + 25_000 });
  });

  test("a beat with another state changes the worker, and the revisions grow", async () => {
    await using store = await create();
    const { state } = store;
    await state.workers.put(worker(), ttlMs, t0);
    const before = await state.workers.list(t0);
    const draining = worker({ health: Health.DRAINING, healthReason: "because" });
    expect(await state.workers.beat(draining, ttlMs, t0 + 1)).toBe(true);
    const after = await state.workers.list(t0 + 1);
    expect(after.workers[0]).toMatchObject({ health: Health.DRAINING, healthReason: "because" });
    expect(after.revision).toBeGreaterThan(before.revision);
    expect(after.workers[0]?.revision).toBeGreaterThan(before.workers[0]?.revision ?? 0n);
    expect(BigInt(after.revision) >= (after.workers[0]?.revision ?? 0n)).toBe(true);
  });

  test("what a beat says of the directory's own fields is ignored", async () => {
    await using store = await create();
    const { state } = store;
    const put = await state.workers.put(worker(), ttlMs, t0);
    const { revision } = await state.workers.list(t0);
    expect(await state.workers.beat({ ...put, revision: 99_999n }, ttlMs, t0 + 1)).toBe(true);
    const after = await state.workers.list(t0 + 1);
    expect(after.revision).toBe(revision);
    expect(after.workers[0]?.revision).toBe(put.revision);
  });

  test("an unknown worker and another incarnation cannot beat", async () => {
    await using store = await create();
    const { state } = store;
    expect(await state.workers.beat(worker(), ttlMs, t0)).toBe(false);
    await state.workers.put(worker(), ttlMs, t0);
    expect(await state.workers.beat(worker({ incarnation: "w-0", healthReason: "old" }), ttlMs, t0)).toBe(false);
    expect((await state.workers.list(t0)).workers).toMatchObject([{ incarnation: "w-1", healthReason: "" }]);
  });

  test("a known incarnation that registers again keeps its first time; a new one has its own", async () => {
    await using store = await create();
    const { state } = store;
    await state.workers.put(worker(), ttlMs, t0);
    expect(timesOf(await state.workers.put(worker(), ttlMs, t0 + 5)).registeredAt).toBe(t0);
    const next = await state.workers.put(worker({ incarnation: "w-2" }), ttlMs, t0 + 9);
    expect(timesOf(next)).toEqual({ registeredAt: t0 + 9, expiresAt: t0 + 9 + ttlMs });
    expect((await state.workers.list(t0 + 9)).workers).toMatchObject([{ incarnation: "w-2" }]);
  });

  test("every put, change and removal makes the revision grow", async () => {
    await using store = await create();
    const { state } = store;
    const revisions = [(await state.workers.list(t0)).revision];
    const step = async (work: () => Promise<unknown>) => {
      await work();
      revisions.push((await state.workers.list(t0)).revision);
    };
    await step(() => state.workers.put(worker(), ttlMs, t0));
    await step(() => state.workers.put(worker(), ttlMs, t0));
    await step(() => state.workers.beat(worker({ healthReason: "x" }), ttlMs, t0));
    await step(() => state.workers.put(worker({ id: "v" }), ttlMs, t0));
    await step(() => state.workers.remove("v", "w-1", t0));
    await step(() => state.workers.prune(t0 + ttlMs));
    for (const [index, revision] of revisions.entries()) {
      if (index > 0) expect(revision, `step ${index}`).toBeGreaterThan(revisions[index - 1] ?? Infinity);
    }
  });

  test("a worker that comes back after its removal has a greater revision than before", async () => {
    await using store = await create();
    const { state } = store;
    const before = await state.workers.put(worker(), ttlMs, t0);
    await state.workers.remove("w", "w-1", t0);
    const after = await state.workers.put(worker(), ttlMs, t0);
    expect(after.revision).toBeGreaterThan(before.revision);
  });

  test("removing takes out only this incarnation", async () => {
    await using store = await create();
    const { state } = store;
    await state.workers.put(worker({ incarnation: "w-2" }), ttlMs, t0);
    expect(await state.workers.remove("w", "w-1", t0)).toBe(false);
    expect(await state.workers.remove("w", "w-2", t0)).toBe(true);
    expect(await state.workers.remove("w", "w-2", t0)).toBe(false);
    expect(await idsAt(state, t0)).toEqual([]);
  });

  test("pruning takes out those whose leases have ended, and nobody else", async () => {
    await using store = await create();
    const { state } = store;
    await state.workers.put(worker({ id: "old" }), 10_000, t0);
    await state.workers.put(worker({ id: "renewed" }), 10_000, t0);
    await state.workers.put(worker({ id: "young" }), 30_000, t0);
    await state.workers.beat(worker({ id: "renewed" }), 10_000, t0 + 5_000);
    expect(await state.workers.prune(t0 + 9_999)).toEqual([]);
    expect(await state.workers.prune(t0 + 10_000)).toEqual(["old"]);
    expect(await state.workers.prune(t0 + 10_000)).toEqual([]);
    expect(await idsAt(state, t0 + 10_000)).toEqual(["renewed", "young"]);
  });

  test("hostile ids, models and addresses come back as they were, in the order of their bytes", async () => {
    await using store = await create();
    const { state } = store;
    for (const id of hostileIds) {
      const pools = [{ accountId: id, models: [id, `other ${id}`], slots: 1, availableSlots: 1 }];
      await state.workers.put(worker({ id, incarnation: id, pools }), ttlMs, t0);
    }
    const { workers } = await state.workers.list(t0);
    const sorted = hostileIds.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    expect(workers.map(({ id }) => id)).toEqual(sorted);
    expect(workers.map(({ pools }) => pools[0]?.models[0])).toEqual(sorted);
    for (const id of hostileIds) expect(await state.workers.remove(id, id, t0)).toBe(true);
    expect(await idsAt(state, t0)).toEqual([]);
  });

  test("workers that register at the same time are all there", async () => {
    await using store = await create();
    const { state } = store;
    const ids = Array.from({ length: 100 }, (_, index) => `w-${String(index).padStart(3, "0")}`);
    await Promise.all(ids.map((id) => state.workers.put(worker({ id }), ttlMs, t0)));
    const { workers, revision } = await state.workers.list(t0);
    expect(workers.map(({ id }) => id)).toEqual(ids);
    expect(new Set(workers.map((each) => each.revision)).size).toBe(ids.length);
    expect(workers.every((each) => each.revision <= BigInt(revision))).toBe(true);
  });
});

async function idsAt(state: State, now: number): Promise<string[]> {
  return (await state.workers.list(now)).workers.map(({ id }) => id);
}

function timesOf(each: Awaited<ReturnType<State["workers"]["put"]>> | undefined) {
  return {
    registeredAt: each?.registeredAt && timestampMs(each.registeredAt),
    expiresAt: each?.expiresAt && timestampMs(each.expiresAt),
  };
}
