// Requests that wait for a slot: the scheduler's service on a real store, under a clock that the test moves.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { AccountSpecSchema, BreakerSchema, BreakerState } from "#gen/drawbridge/v1/account";
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import { RegistryService } from "#gen/drawbridge/v1/registry_service";
import { type Lease, Priority, SchedulerService } from "#gen/drawbridge/v1/scheduler_service";
import { End, OutcomeSchema } from "#gen/drawbridge/v1/usage";
import { Health, WorkerSchema } from "#gen/drawbridge/v1/worker";
import { silentLog } from "../../../services/kit/log.ts";
import { localClient } from "../../../services/kit/rpc/local.ts";
import { createRegistryApp } from "../../../services/registry/app.ts";
import { registrySettings } from "../../../services/registry/config.ts";
import { createSchedulerApp } from "../../../services/scheduler/app.ts";
import { schedulerSettings } from "../../../services/scheduler/config.ts";
import { openState } from "../../../services/state/open.ts";
import type { State } from "../../../services/state/state.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

let clock: VirtualClock;
let state: State;
let stack: AsyncDisposableStack;

beforeEach(async () => {
  clock = new VirtualClock();
  stack = new AsyncDisposableStack();
  state = stack.use(await openState("sqlite::memory:", { log: silentLog }));
});

afterEach(() => stack.disposeAsync());

async function addAccount(id: string, slots = 1) {
  const spec = create(AccountSpecSchema, {
    id,
    agent: "demo",
    models: { m: "m" },
    initialMillicredits: 1_000_000n,
    millicreditsPerRequest: 1_000n,
    slots,
  });
  await state.accounts.create(spec, "api", clock.now());
}

async function addWorker(accountId: string, slots = 1, conversations: string[] = []) {
  const pool = { accountId, models: ["m"], slots, availableSlots: slots, health: Health.HEALTHY, conversations };
  const worker = create(WorkerSchema, { id: `${accountId}-1`, incarnation: "i", address: "w", pools: [pool] });
  await state.workers.put(worker, 3_600_000, clock.now());
}

async function startScheduler(settings: object = {}) {
  const common = { state, clock, random: seededRandom(1), log: silentLog };
  const registry = stack.use(createRegistryApp({ ...common, config: registrySettings.parse({}) }));
  const app = stack.use(
    createSchedulerApp({
      ...common,
      config: schedulerSettings.parse(settings),
      registry: localClient(RegistryService, registry.service),
      worker: () => {
        throw new Error("no prompt is run here");
      },
    }),
  );
  await app.start();
  await clock.advance(0);
  return localClient(SchedulerService, app.service);
}

type Scheduler = Awaited<ReturnType<typeof startScheduler>>;

interface Asked {
  readonly userId?: string;
  readonly priority?: Priority;
  readonly conversation?: string;
  readonly excludedAccountIds?: string[];
}

interface CallOptions {
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
}

async function acquire(
  scheduler: Scheduler,
  name: string,
  asked: Asked = {},
  options: CallOptions = {},
): Promise<Lease> {
  const { lease } = await scheduler.acquire({ requestId: name, attemptId: name, model: "m", ...asked }, options);
  if (!lease) throw new Error("an answer has a lease");
  return lease;
}

function report(scheduler: Scheduler, { attemptId, requestId, accountId, workerId }: Lease, fields: object = {}) {
  const end = { end: End.FINISHED, content: true, ...fields };
  return scheduler.report({ outcome: create(OutcomeSchema, { attemptId, requestId, accountId, workerId, ...end }) });
}

/** Serves those who wait, one after another, until nobody does; the order in which they had their turns. */
async function serveAll(scheduler: Scheduler, first: Lease, waiting: Map<string, Promise<Lease>>): Promise<string[]> {
  const served: Lease[] = [];
  for (const each of waiting.values()) void each.then((lease) => served.push(lease));
  const order: string[] = [];
  for (let lease: Lease | undefined = first; lease; lease = served.shift()) {
    order.push(lease.attemptId);
    await report(scheduler, lease);
    await clock.advance(1);
  }
  return order.slice(1);
}

describe("those who wait", () => {
  test("are served as slots come free, users in turns", async () => {
    await addAccount("a");
    await addWorker("a");
    const scheduler = await startScheduler();
    const first = await acquire(scheduler, "first");
    const waiting = new Map<string, Promise<Lease>>();
    for (const name of ["flood1", "flood2", "flood3", "flood4"]) {
      waiting.set(name, acquire(scheduler, name, { userId: "flood" }));
    }
    waiting.set("other1", acquire(scheduler, "other1", { userId: "other" }));
    await clock.advance(1);
    expect(await serveAll(scheduler, first, waiting)).toEqual(["flood1", "other1", "flood2", "flood3", "flood4"]);
  });

  test("of a low class are slowed and not starved", async () => {
    await addAccount("a");
    await addWorker("a");
    const scheduler = await startScheduler();
    const first = await acquire(scheduler, "first");
    const waiting = new Map<string, Promise<Lease>>();
    for (let index = 0; index < 30; index += 1) {
      const [high, low] = [`high${index}`, `low${index}`];
      waiting.set(low, acquire(scheduler, low, { priority: Priority.LOW }));
      waiting.set(high, acquire(scheduler, high, { priority: Priority.HIGH }));
    }
    await clock.advance(1);
    const order = (await serveAll(scheduler, first, waiting)).slice(0, 18);
    expect(order.filter((name) => name.startsWith("low"))).toHaveLength(2);
  });

  test("leave the queue when their caller leaves, and no lease is lost", async () => {
    await addAccount("a");
    await addWorker("a");
    const scheduler = await startScheduler();
    const first = await acquire(scheduler, "first");
    const leaving = new AbortController();
    const left = expect(acquire(scheduler, "left", {}, { signal: leaving.signal })).rejects.toThrow();
    const next = acquire(scheduler, "next");
    await clock.advance(1);
    leaving.abort();
    await left;
    await report(scheduler, first);
    expect((await next).attemptId).toBe("next");
    expect(await state.leases.open("a")).toHaveLength(1);
  });

  test("are told to the controller and to other schedulers", async () => {
    await addAccount("a");
    await addWorker("a");
    const scheduler = await startScheduler();
    const first = await acquire(scheduler, "first");
    const waiting = [acquire(scheduler, "1"), acquire(scheduler, "2")];
    await clock.advance(1_000);
    expect(await state.demand.list(clock.now())).toEqual([{ model: "m", waiting: 2 }]);
    await report(scheduler, first);
    await report(scheduler, await (waiting[0] as Promise<Lease>));
    await waiting[1];
    await clock.advance(1_000);
    expect(await state.demand.list(clock.now())).toEqual([]);
  });

  test("at another scheduler get their share, though this one hears first of what comes free", async () => {
    await addAccount("a");
    await addWorker("a");
    const [busy, other] = [await startScheduler(), await startScheduler()];
    let lease = await acquire(busy, "first");
    const served: Lease[] = [];
    const flood = Array.from({ length: 8 }, async (_, index) => served.push(await acquire(busy, `busy${index}`)));
    const others = Array.from({ length: 8 }, async (_, index) => served.push(await acquire(other, `other${index}`)));
    await clock.advance(2_000);
    for (let turn = 0; turn < 8; turn += 1) {
      await report(lease.attemptId.startsWith("other") ? other : busy, lease);
      // The worker beats when its slot is free: that is how the other one hears.
      await clock.advance(50);
      const { workers } = await state.workers.list(clock.now());
      for (const worker of workers) await state.workers.put(worker, 3_600_000, clock.now());
      await clock.advance(1_000);
      lease = served.shift() as Lease;
      expect(lease, "no slot stays free while requests wait").toBeDefined();
      if (lease.attemptId.startsWith("other")) break;
    }
    expect(lease.attemptId).toMatch(/^other/);
    await Promise.race([Promise.allSettled([...flood, ...others]), clock.advance(70_000)]);
  });
});

describe("a wait that cannot fit is refused, with the time to come again", () => {
  test("where the queue is full", async () => {
    await addAccount("a");
    await addWorker("a");
    const scheduler = await startScheduler({ queue: { size: 1 } });
    const first = await acquire(scheduler, "first");
    const waits = acquire(scheduler, "waits");
    await clock.advance(1);
    await expect(acquire(scheduler, "refused")).rejects.toMatchObject({ reason: "NO_CAPACITY", retryAfterMs: 1_000 });
    await report(scheduler, first);
    await waits;
  });

  test("where the deadline comes first, by the rate of late", async () => {
    await addAccount("a");
    await addWorker("a");
    const scheduler = await startScheduler();
    let lease = await acquire(scheduler, "first");
    const waiting = Array.from({ length: 11 }, (_, index) => acquire(scheduler, `${index}`));
    for (const next of waiting.slice(0, 8)) {
      await clock.advance(2_000);
      await report(scheduler, lease);
      lease = await next;
    }
    const late = acquire(scheduler, "late", {}, { timeoutMs: 5_000 });
    await expect(late).rejects.toMatchObject({ reason: "NO_CAPACITY", retryAfterMs: 8_000 });
    const all = Promise.allSettled(waiting);
    await clock.advance(70_000);
    await all;
  });

  test("but not for the time in which nobody waited, nor by a rate of long ago", async () => {
    await addAccount("a");
    await addWorker("a");
    const scheduler = await startScheduler();
    let lease = await acquire(scheduler, "first");
    const waiting = Array.from({ length: 8 }, (_, index) => acquire(scheduler, `${index}`));
    for (const next of waiting) {
      await clock.advance(2_000);
      await report(scheduler, lease);
      lease = await next;
    }
    await clock.advance(50_000);
    const soon = acquire(scheduler, "soon", {}, { timeoutMs: 5_000 });
    await clock.advance(1_000);
    await report(scheduler, lease);
    lease = await soon;
    const hasty = () => acquire(scheduler, `hasty at ${clock.now()}`, {}, { timeoutMs: 1_500 });
    await expect(hasty()).rejects.toMatchObject({ reason: "NO_CAPACITY", retryAfterMs: 2_000 });
    await clock.advance(50_000);
    await expect(hasty()).rejects.toMatchObject({ reason: "NO_CAPACITY", retryAfterMs: 2_000 });
    await clock.advance(50_000);
    const later = hasty();
    await clock.advance(1_000);
    await report(scheduler, lease);
    await later;
  });

  test("where it turns out so", async () => {
    await addAccount("a");
    await addWorker("a");
    const scheduler = await startScheduler();
    await acquire(scheduler, "first");
    const late = expect(acquire(scheduler, "late", {}, { timeoutMs: 5_000 })).rejects.toMatchObject({
      reason: "NO_CAPACITY",
    });
    await clock.advance(5_000);
    await late;
    expect(await state.leases.open("a")).toHaveLength(1);
  });

  test("where all accounts cool down, for as long as they do", async () => {
    await addAccount("a");
    await addWorker("a");
    const until = timestampFromMs(clock.now() + 9_000);
    const cause = ErrorReason.AGENT_RATE_LIMITED;
    const breaker = create(BreakerSchema, { accountId: "a", state: BreakerState.OPEN, until, cause });
    await state.breakers.compareAndSet(breaker);
    const scheduler = await startScheduler();
    await expect(acquire(scheduler, "1")).rejects.toMatchObject({ reason: "BREAKER_OPEN", retryAfterMs: 9_000 });
  });

  test("where only accounts are left that were tried", async () => {
    await addAccount("a");
    await addWorker("a");
    const scheduler = await startScheduler();
    const again = acquire(scheduler, "again", { excludedAccountIds: ["a"] });
    await expect(again).rejects.toMatchObject({ reason: "NO_WORKER" });
  });
});

test("a request for a model without any worker waits for the first one", async () => {
  await addAccount("a");
  const scheduler = await startScheduler();
  const cold = acquire(scheduler, "cold");
  await clock.advance(3_000);
  expect(await state.demand.list(clock.now())).toEqual([{ model: "m", waiting: 1 }]);
  await addWorker("a");
  await clock.advance(1_000);
  expect((await cold).workerId).toBe("a-1");
});

test("a conversation goes to its holder while that has a free slot, then elsewhere", async () => {
  await addAccount("rich", 4);
  await addAccount("holder", 1);
  await addWorker("rich", 4);
  await addWorker("holder", 1, ["c"]);
  const scheduler = await startScheduler();
  expect((await acquire(scheduler, "1")).accountId).toBe("rich");
  const held = await acquire(scheduler, "2", { conversation: "c" });
  expect(held.accountId).toBe("holder");
  const spilled = await acquire(scheduler, "3", { conversation: "c" });
  expect(spilled.accountId).toBe("rich");
  await report(scheduler, spilled, { conversation: "d" });
  expect((await acquire(scheduler, "4", { conversation: "d" })).accountId).toBe("rich");
});

describe("a request that ran", () => {
  test("is explained: every candidate, its score, and why it was or was not taken", async () => {
    for (const id of ["a", "b"]) {
      await addAccount(id, id === "a" ? 4 : 1);
      await addWorker(id, id === "a" ? 4 : 1);
    }
    const scheduler = await startScheduler();
    await acquire(scheduler, "r", { excludedAccountIds: ["b"] });
    const { decisions, candidates } = await scheduler.explain({ requestId: "r" });
    expect(decisions).toMatchObject([
      { attemptId: "r", accountId: "a", workerId: "a-1", refused: ErrorReason.UNSPECIFIED, excludedAccountIds: ["b"] },
    ]);
    expect(candidates).toMatchObject([
      { accountId: "a", rank: 1, score: 5_000, availableSlots: 4, explanation: "taken; 4 of 4 slots free" },
      { accountId: "b", rank: 0, rejected: ErrorReason.AGENT_ERROR },
    ]);
  });

  test("is explained when it waited, and when it was refused", async () => {
    await addAccount("a");
    await addWorker("a");
    const scheduler = await startScheduler();
    const first = await acquire(scheduler, "first");
    const waits = acquire(scheduler, "waits");
    const late = acquire(scheduler, "late", {}, { timeoutMs: 3_000 }).catch(() => undefined);
    await clock.advance(3_000);
    await report(scheduler, first);
    await Promise.all([waits, late]);
    const waited = (await scheduler.explain({ requestId: "waits" })).decisions;
    expect(waited).toMatchObject([{ accountId: "a", waited: { seconds: 3n } }]);
    expect(waited[0]?.explanation).toContain("waited for a slot");
    const refused = (await scheduler.explain({ requestId: "late" })).decisions;
    expect(refused).toMatchObject([{ accountId: "", refused: ErrorReason.NO_CAPACITY }]);
    expect(refused[0]?.candidates).toMatchObject([{ rank: 0, explanation: "all 1 slots are taken" }]);
  });

  test("at another scheduler is said to be unknown here", async () => {
    await addAccount("a");
    const scheduler = await startScheduler();
    await expect(scheduler.explain({ requestId: "x" })).rejects.toMatchObject({ reason: "NOT_FOUND" });
  });
});
