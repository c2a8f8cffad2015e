// The registry on a real embedded store, called through its typed client.
import { create } from "@bufbuild/protobuf";
import { afterEach, describe, expect, it } from "vitest";
import { AccountSpecSchema } from "#gen/drawbridge/v1/account";
import { RegistryService, type WatchWorkersResponse } from "#gen/drawbridge/v1/registry_service";
import { End, OutcomeSchema } from "#gen/drawbridge/v1/usage";
import { Health, type Worker, WorkerSchema } from "#gen/drawbridge/v1/worker";
import { parseSettings } from "../../../services/kit/settings.ts";
import { DrawbridgeError } from "../../../services/kit/errors.ts";
import { silentLog } from "../../../services/kit/log.ts";
import { localClient } from "../../../services/kit/rpc/local.ts";
import { createRegistryApp } from "../../../services/registry/app.ts";
import { registrySettings } from "../../../services/registry/config.ts";
import { openState } from "../../../services/state/open.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

let resources = new AsyncDisposableStack();
afterEach(async () => {
  await resources.disposeAsync();
  resources = new AsyncDisposableStack();
});

async function startRegistry() {
  const clock = new VirtualClock();
  const state = resources.use(await openState("sqlite::memory:", { log: silentLog }));
  const config = parseSettings(registrySettings, {}, "test");
  const app = resources.use(createRegistryApp({ state, clock, log: silentLog, config }));
  await app.start();
  return { clock, state, app, registry: localClient(RegistryService, app.service) };
}

function worker(id: string, fields: { model?: string; availableSlots?: number } = {}): Worker {
  const { model = "m", availableSlots = 2 } = fields;
  return create(WorkerSchema, {
    id,
    incarnation: `${id}-1`,
    address: "http://127.0.0.1:1",
    health: Health.HEALTHY,
    pools: [{ accountId: "a", models: [model], slots: 2, availableSlots, queueLimit: 4, health: Health.HEALTHY }],
  });
}

/** A watch whose elements a test takes one by one. */
function watcher(watch: AsyncIterable<WatchWorkersResponse>) {
  const iterator = watch[Symbol.asyncIterator]();
  return async () => (await iterator.next()).value as WatchWorkersResponse;
}

/** The next worker that is gone. */
async function removal(next: ReturnType<typeof watcher>): Promise<string> {
  for (;;) {
    const { element } = await next();
    if (element.case === "removedWorkerId") return element.value;
  }
}

/** Lets nobody through before so many have come; whoever comes later, at once. */
function barrier(count: number): () => Promise<void> {
  const all = Promise.withResolvers<void>();
  let come = 0;
  return () => {
    come += 1;
    if (come === count) all.resolve();
    return all.promise;
  };
}

describe("registry", () => {
  it("tells a watcher the snapshot, then a change, then a death within a second of the lease's end", async () => {
    const { registry, clock } = await startRegistry();
    await registry.register({ worker: worker("w1") });
    const stop = new AbortController();
    const next = watcher(registry.watchWorkers({}, { signal: stop.signal }));
    const snapshot = await next();
    expect(snapshot.element.case === "snapshot" && snapshot.element.value.workers.map(({ id }) => id)).toEqual(["w1"]);

    const change = next();
    await registry.heartbeat({ worker: worker("w1", { availableSlots: 1 }) });
    await clock.advance(100);
    expect((await change).element).toMatchObject({ case: "put", value: { id: "w1", pools: [{ availableSlots: 1 }] } });

    // Bookmarks come while nothing changes; the death comes by time alone.
    const dead = removal(next);
    await clock.advance(16_000);
    expect(await dead).toEqual("w1");
    stop.abort();
  });

  it("tells a death when the lease ends, and no more than a second later, whenever the last beat was", async () => {
    const { registry, clock } = await startRegistry();
    const next = watcher(registry.watchWorkers({}));
    await next();
    for (let sinceLookMs = 0; sinceLookMs <= 1_000; sinceLookMs += 125) {
      await clock.advance(sinceLookMs);
      await registry.register({ worker: worker("w1") });
      // Beats that bring nothing new move the end of the lease without a hint.
      for (let beat = 0; beat < 2; beat += 1) {
        await clock.advance(4_900);
        await registry.heartbeat({ worker: worker("w1") });
      }
      const leaseEnd = clock.now() + 15_000;
      const told = removal(next).then(() => clock.now());
      await clock.advance(20_000);
      expect(await told).toBeGreaterThanOrEqual(leaseEnd);
      expect(await told).toBeLessThanOrEqual(leaseEnd + 1_000);
    }
  });

  it("asks a worker whose lease was lost to register again", async () => {
    const { registry, clock } = await startRegistry();
    await registry.register({ worker: worker("w1") });
    await clock.advance(20_000);
    await expect(registry.heartbeat({ worker: worker("w1") })).rejects.toMatchObject({ reason: "NOT_FOUND" });
    await registry.register({ worker: worker("w1") });
    await registry.heartbeat({ worker: worker("w1") });
  });

  it("counts an outcome once, however often a heartbeat brings it, and renews the lease of what runs", async () => {
    const { registry, state, clock } = await startRegistry();
    const spec = create(AccountSpecSchema, {
      id: "a",
      agent: "demo",
      models: { m: "m" },
      initialMillicredits: 10_000n,
      millicreditsPerRequest: 1_000n,
      slots: 2,
      queue: 4,
    });
    await state.accounts.create(spec, "api", clock.now());
    await registry.register({ worker: worker("w1") });
    for (const attemptId of ["done", "running"]) {
      const result = await state.leases.acquire({
        attemptId,
        requestId: `r-${attemptId}`,
        accountId: "a",
        workerId: "w1",
        workerIncarnation: "w1-1",
        model: "m",
        millicredits: 1_000,
        capacity: 6,
        expiresAt: clock.now() + 1_000,
        now: clock.now(),
      });
      expect(result.acquired).toBe(true);
    }
    const outcome = create(OutcomeSchema, {
      attemptId: "done",
      requestId: "r-done",
      accountId: "a",
      workerId: "w1",
      end: End.FINISHED,
      content: true,
    });
    const beat = { worker: worker("w1"), runningAttemptIds: ["running"], outcomes: [outcome] };
    for (let time = 0; time < 2; time += 1) {
      expect((await registry.heartbeat(beat)).acknowledgedAttemptIds).toEqual(["done"]);
    }
    const account = await state.accounts.get("a");
    expect(account?.credits).toMatchObject({ granted: 10_000n, available: 8_000n, held: 1_000n, spent: 1_000n });
    const open = await state.leases.open("a");
    expect(open).toMatchObject([{ attemptId: "running", expiresAt: clock.now() + 60_000 }]);
  });

  it("waits for the store as often with many outcomes as with one", async () => {
    const { registry, state } = await startRegistry();
    await registry.register({ worker: worker("w1") });
    const outcomes = Array.from({ length: 300 }, (_, index) =>
      create(OutcomeSchema, { attemptId: `a${index}`, requestId: `r${index}`, accountId: "a", end: End.FINISHED }),
    );
    // The first answer comes when all have been asked for: one after another, they would wait for ever.
    const [settled, recorded] = [barrier(outcomes.length + 1), barrier(outcomes.length)];
    const settle = state.leases.settle.bind(state.leases);
    const record = state.outcomes.record.bind(state.outcomes);
    const beat = state.workers.beat.bind(state.workers);
    state.leases.settle = (...asked) => settled().then(() => settle(...asked));
    state.workers.beat = (...asked) => settled().then(() => beat(...asked));
    state.outcomes.record = (...asked) => recorded().then(() => record(...asked));
    const { acknowledgedAttemptIds } = await registry.heartbeat({ worker: worker("w1"), outcomes });
    expect(acknowledgedAttemptIds).toEqual(outcomes.map(({ attemptId }) => attemptId));
  });

  it("lists by model, page by page", async () => {
    const { registry } = await startRegistry();
    for (const id of ["w1", "w2", "w3"]) await registry.register({ worker: worker(id) });
    await registry.register({ worker: worker("other", { model: "else" }) });
    const ids: string[] = [];
    let pageToken = "";
    do {
      const page = await registry.listWorkers({ model: "m", pageSize: 2, pageToken });
      ids.push(...page.workers.map(({ id }) => id));
      pageToken = page.nextPageToken;
    } while (pageToken);
    expect(ids).toEqual(["w1", "w2", "w3"]);
  });

  it("reads the store once for all who watch, and a watcher that was away gets the present, not the past", async () => {
    const { registry, state, clock } = await startRegistry();
    let reads = 0;
    const list = state.workers.list.bind(state.workers);
    state.workers.list = (now) => {
      reads += 1;
      return list(now);
    };
    await registry.register({ worker: worker("w1") });
    const watchers = Array.from({ length: 20 }, () => watcher(registry.watchWorkers({})));
    for (const next of watchers) expect((await next()).element.case).toBe("snapshot");
    expect(reads).toBeLessThanOrEqual(2);
    const [away, ...present] = watchers;
    for (const availableSlots of [1, 0, 1]) {
      const before = reads;
      const changes = present.map((next) => next());
      await registry.heartbeat({ worker: worker("w1", { availableSlots }) });
      await clock.advance(200);
      for (const change of await Promise.all(changes)) {
        expect(change.element).toMatchObject({ case: "put", value: { pools: [{ availableSlots }] } });
      }
      expect(reads - before).toBeLessThanOrEqual(2);
    }
    // What it missed is one difference.
    expect((await away?.())?.element).toMatchObject({ case: "put", value: { pools: [{ availableSlots: 1 }] } });
    const late = watcher(registry.watchWorkers({}));
    expect((await late()).element).toMatchObject({ case: "snapshot", value: { workers: [{ id: "w1" }] } });
  });

  it("ends its watches when the store is away, so that nobody takes silence for news, and serves new ones afterwards", async () => {
    const { registry, state, clock } = await startRegistry();
    await registry.register({ worker: worker("w1") });
    const [waiting, slow] = [watcher(registry.watchWorkers({})), watcher(registry.watchWorkers({}))];
    await waiting();
    await slow();
    const list = state.workers.list.bind(state.workers);
    state.workers.list = () => Promise.reject(new DrawbridgeError("STATE_UNAVAILABLE", "The store is away."));
    const ended = expect(waiting()).rejects.toMatchObject({ reason: "STATE_UNAVAILABLE" });
    await clock.advance(5_000);
    await ended;
    state.workers.list = list;
    // One that was not waiting at that moment has missed it no less.
    await expect(slow()).rejects.toMatchObject({ reason: "STATE_UNAVAILABLE" });
    await registry.heartbeat({ worker: worker("w1") });
    const again = watcher(registry.watchWorkers({}))();
    await clock.advance(2_000);
    expect((await again).element).toMatchObject({ case: "snapshot", value: { workers: [{ id: "w1" }] } });
  });

  it("ends its watches with an error when it stops", async () => {
    const { registry, app } = await startRegistry();
    const next = watcher(registry.watchWorkers({}));
    await next();
    const ended = next();
    await app[Symbol.asyncDispose]();
    await expect(ended).rejects.toMatchObject({ reason: "STATE_UNAVAILABLE" });
  });
});
