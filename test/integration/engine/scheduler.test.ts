// The scheduler on a real store: leases, credits and what becomes of leases that nobody reports.
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { AccountSpecSchema } from "#gen/drawbridge/v1/account";
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import { RegistryService } from "#gen/drawbridge/v1/registry_service";
import { type Lease, SchedulerService } from "#gen/drawbridge/v1/scheduler_service";
import { End, OutcomeSchema } from "#gen/drawbridge/v1/usage";
import { Health, WorkerSchema } from "#gen/drawbridge/v1/worker";
import { DrawbridgeError } from "../../../services/kit/errors.ts";
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

async function addAccount(id: string, { credits = 10, slots = 4, queue = 2 } = {}) {
  const spec = create(AccountSpecSchema, {
    id,
    agent: "demo",
    models: { m: "m" },
    initialMillicredits: BigInt(credits * 1_000),
    millicreditsPerRequest: 1_000n,
    slots,
    queue,
    workers: { min: 1, max: 1 },
  });
  await state.accounts.create(spec, "api", clock.now());
  const pool = {
    accountId: id,
    models: ["m"],
    slots,
    availableSlots: slots,
    queueLimit: queue,
    health: Health.HEALTHY,
  };
  const worker = create(WorkerSchema, { id: `${id}-1`, incarnation: "i", address: `http://${id}`, pools: [pool] });
  await state.workers.put(worker, 3_600_000, clock.now());
}

async function startScheduler(settings: object = {}, store: State = state) {
  const common = { state: store, clock, random: seededRandom(1), log: silentLog };
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

async function acquire(scheduler: Scheduler, attemptId: string): Promise<Lease> {
  const { lease } = await scheduler.acquire({ requestId: `r-${attemptId}`, attemptId, model: "m" });
  if (!lease) throw new Error("an answer has a lease");
  return lease;
}

function outcomeOf({ attemptId, requestId, accountId, workerId }: Lease, fields: object = {}) {
  const end = End.FINISHED;
  return create(OutcomeSchema, { attemptId, requestId, accountId, workerId, end, content: true, ...fields });
}

async function creditsOf(id: string) {
  const { granted = 0n, available = 0n, held = 0n, spent = 0n } = (await state.accounts.get(id))?.credits ?? {};
  expect(granted).toBe(available + held + spent);
  return { available, held, spent };
}

describe("a lease", () => {
  test("reserves credits, and its report spends them once", async () => {
    await addAccount("a");
    const scheduler = await startScheduler();
    const lease = await acquire(scheduler, "1");
    expect(await creditsOf("a")).toEqual({ available: 9_000n, held: 1_000n, spent: 0n });
    expect(await scheduler.report({ outcome: outcomeOf(lease) })).toMatchObject({ settled: true });
    expect(await scheduler.report({ outcome: outcomeOf(lease) })).toMatchObject({ settled: false });
    expect(await creditsOf("a")).toEqual({ available: 9_000n, held: 0n, spent: 1_000n });
  });

  test("whose report meets a store that is away is open until it is reported again", async () => {
    await addAccount("a", { slots: 1, queue: 0 });
    let away = true;
    const settle: State["leases"]["settle"] = async (...told) => {
      if (away) throw new DrawbridgeError("STATE_UNAVAILABLE", "Away.");
      return state.leases.settle(...told);
    };
    const scheduler = await startScheduler({}, { ...state, leases: { ...state.leases, settle } });
    const lease = await acquire(scheduler, "1");
    await expect(scheduler.report({ outcome: outcomeOf(lease) })).rejects.toMatchObject({
      reason: "STATE_UNAVAILABLE",
    });
    away = false;
    expect(await scheduler.report({ outcome: outcomeOf(lease) })).toMatchObject({ settled: true });
    expect((await scheduler.explain({ model: "m" })).candidates).toMatchObject([{ rank: 1, availableSlots: 1 }]);
    expect(await creditsOf("a")).toEqual({ available: 9_000n, held: 0n, spent: 1_000n });
  });

  test("is the same one for a repeated call, and none once it was reported", async () => {
    await addAccount("a");
    await addAccount("b");
    const scheduler = await startScheduler();
    const lease = await acquire(scheduler, "1");
    expect(await acquire(scheduler, "1")).toEqual(lease);
    const open = [...(await state.leases.open("a")), ...(await state.leases.open("b"))];
    expect(open).toHaveLength(1);
    await scheduler.report({ outcome: outcomeOf(lease) });
    await expect(acquire(scheduler, "1")).rejects.toMatchObject({ reason: "LEASE_INVALID" });
  });

  test("that its caller never heard of is released, and costs nothing", async () => {
    await addAccount("a", { slots: 1, queue: 0 });
    const scheduler = await startScheduler();
    await acquire(scheduler, "1");
    expect(await scheduler.release({ attemptId: "1" })).toMatchObject({ released: true });
    expect(await scheduler.release({ attemptId: "1" })).toMatchObject({ released: false });
    expect(await creditsOf("a")).toEqual({ available: 10_000n, held: 0n, spent: 0n });
    expect((await scheduler.explain({ model: "m" })).candidates).toMatchObject([{ rank: 1, availableSlots: 1 }]);
    await expect(acquire(scheduler, "1")).rejects.toMatchObject({ reason: "LEASE_INVALID" });
    await acquire(scheduler, "2");
  });

  test("that is on its way is released once it is there", async () => {
    await addAccount("a");
    const scheduler = await startScheduler();
    const coming = acquire(scheduler, "1");
    const released = scheduler.release({ attemptId: "1" });
    await coming;
    expect(await released).toMatchObject({ released: true });
    expect(await creditsOf("a")).toEqual({ available: 10_000n, held: 0n, spent: 0n });
  });

  test("that was used is not released", async () => {
    await addAccount("a");
    const scheduler = await startScheduler();
    await scheduler.report({ outcome: outcomeOf(await acquire(scheduler, "1")) });
    expect(await scheduler.release({ attemptId: "1" })).toMatchObject({ released: false });
    expect(await creditsOf("a")).toEqual({ available: 9_000n, held: 0n, spent: 1_000n });
  });

  test("is not given to an attempt that was given up before it asked", async () => {
    await addAccount("a");
    const scheduler = await startScheduler();
    await scheduler.release({ attemptId: "1" });
    await expect(acquire(scheduler, "1")).rejects.toMatchObject({ reason: "LEASE_INVALID" });
  });

  test("that nobody reports ends, gives its credits and its place back", async () => {
    await addAccount("a", { slots: 1, queue: 0 });
    const scheduler = await startScheduler({ queue: { wait_max: "120s" } });
    await acquire(scheduler, "1");
    const next = acquire(scheduler, "2");
    await clock.advance(30_000);
    expect(await creditsOf("a")).toEqual({ available: 9_000n, held: 1_000n, spent: 0n });
    await state.leases.renew("a", ["1"], clock.now() + 20_000);
    await clock.advance(40_000);
    const lease = await next;
    expect(await creditsOf("a")).toEqual({ available: 9_000n, held: 1_000n, spent: 0n });
    await scheduler.report({ outcome: outcomeOf(lease) });
    const { candidates } = await scheduler.explain({ model: "m" });
    expect(candidates).toMatchObject([{ rank: 1, availableSlots: 1 }]);
  });

  test("that nobody reports is settled by what its worker recorded", async () => {
    await addAccount("a");
    const scheduler = await startScheduler();
    const lease = await acquire(scheduler, "1");
    await state.outcomes.record(outcomeOf(lease, { millicredits: 2_500n }), 3_600_000, clock.now());
    await clock.advance(70_000);
    expect(await creditsOf("a")).toEqual({ available: 7_500n, held: 0n, spent: 2_500n });
  });
});

describe("several schedulers on one store", () => {
  test("never give more than the credits", async () => {
    await addAccount("a", { credits: 5, slots: 100, queue: 100 });
    const schedulers = [await startScheduler(), await startScheduler()];
    const attempts = Array.from({ length: 40 }, (_, index) => acquire(schedulers[index % 2] as Scheduler, `${index}`));
    const results = await Promise.allSettled(attempts);
    expect(results.filter((each) => each.status === "fulfilled")).toHaveLength(5);
    expect(await creditsOf("a")).toEqual({ available: 0n, held: 5_000n, spent: 0n });
    await expect(acquire(schedulers[0] as Scheduler, "late")).rejects.toMatchObject({ reason: "CREDITS_EXHAUSTED" });
  });

  test("never give more than the places", async () => {
    await addAccount("a", { credits: 1_000, slots: 4, queue: 2 });
    const schedulers = [await startScheduler(), await startScheduler()];
    const leases: Lease[] = [];
    const attempts = Array.from({ length: 40 }, async (_, index) => {
      leases.push(await acquire(schedulers[index % 2] as Scheduler, `${index}`));
    });
    const over = Promise.allSettled(attempts);
    await clock.advance(1_000);
    expect(leases).toHaveLength(4);
    expect(await state.leases.open("a")).toHaveLength(4);
    await clock.advance(70_000);
    await over;
  });

  test("share what one of them learns of an account", async () => {
    await addAccount("a");
    const [one, two] = [await startScheduler(), await startScheduler()];
    const lease = await acquire(one, "1");
    const reason = ErrorReason.AGENT_UNAUTHENTICATED;
    await one.report({ outcome: outcomeOf(lease, { end: End.FAILED_BEFORE_CONTENT, content: false, reason }) });
    await clock.advance(1_000);
    await expect(acquire(two, "2")).rejects.toMatchObject({ reason: "BREAKER_OPEN" });
    const { candidates } = await two.explain({ model: "m" });
    expect(candidates).toMatchObject([{ rank: 0, rejected: ErrorReason.BREAKER_OPEN }]);
  });
});

test("a burst spreads over equal accounts, though no worker has told anything yet", async () => {
  for (const id of ["a", "b", "c", "d"]) await addAccount(id, { credits: 1_000, slots: 8 });
  const scheduler = await startScheduler();
  const leases = await Promise.all(Array.from({ length: 32 }, (_, index) => acquire(scheduler, `${index}`)));
  const shares = ["a", "b", "c", "d"].map((id) => leases.filter((lease) => lease.accountId === id).length);
  expect(shares).toEqual([8, 8, 8, 8]);
});

test("a watch that ends is begun again after a pause", async () => {
  let watches = 0;
  const common = { state, clock, random: () => 1, log: silentLog };
  const app = createSchedulerApp({
    ...common,
    config: schedulerSettings.parse({}),
    registry: {
      async *watchWorkers() {
        watches += 1;
        yield* [];
      },
    },
    worker: () => {
      throw new Error("no prompt is run here");
    },
  });
  await app.start();
  await clock.advance(1_000);
  expect(watches).toBeGreaterThan(1);
  expect(watches).toBeLessThan(12);
  await app[Symbol.asyncDispose]();
});

test("what nobody serves is told apart", async () => {
  await addAccount("a");
  const scheduler = await startScheduler();
  const unknown = scheduler.acquire({ requestId: "r", attemptId: "1", model: "unknown" });
  await expect(unknown).rejects.toMatchObject({ reason: "MODEL_NOT_FOUND" });
  await state.workers.remove("a-1", "i", clock.now());
  await clock.advance(2_000);
  const refused = expect(acquire(scheduler, "2")).rejects.toMatchObject({ reason: "NO_WORKER" });
  await clock.advance(31_000);
  await refused;
});
