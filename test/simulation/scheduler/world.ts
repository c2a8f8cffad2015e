// A fleet, its schedulers and its clients under one clock. A seed decides everything; the trace says what happened.
import { create } from "@bufbuild/protobuf";
import { AccountSpecSchema, BreakerState } from "#gen/drawbridge/v1/account";
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import { type AcquireRequest, AcquireRequestSchema, type Lease, Priority } from "#gen/drawbridge/v1/scheduler_service";
import { asDrawbridgeError } from "../../../services/kit/errors.ts";
import { silentLog } from "../../../services/kit/log.ts";
import type { Random } from "../../../services/kit/random.ts";
import { type SchedulerSettings, schedulerSettings } from "../../../services/scheduler/config.ts";
import { openState } from "../../../services/state/open.ts";
import type { State } from "../../../services/state/state.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { EventClock } from "./event-clock.ts";
import { type Invariants, watchInvariants } from "./invariants.ts";
import { type Scenario, scenarioOf, whole } from "./scenario.ts";
import { createSimulatedScheduler, type SimulatedScheduler } from "./schedulers.ts";
import { SimulatedWorker } from "./workers.ts";

export interface Result {
  readonly seed: number;
  /** What was wrong; undefined: nothing. */
  readonly violation: string | undefined;
  /** What happened, the last events. */
  readonly trace: readonly string[];
  /** A number that two runs of a seed have in common. */
  readonly digest: number;
  readonly requests: number;
  readonly answered: number;
  readonly refused: number;
  readonly waitedMsMax: number;
}

/** Acquires that have no answer yet. */
interface Pending {
  readonly name: string;
  readonly since: number;
  readonly until: number;
  readonly excluded: number;
}

const settings: SchedulerSettings = schedulerSettings.parse({
  lease_ttl: "15s",
  sweep_interval: "2s",
  refresh_interval: "3s",
  queue: { wait_max: "20s", cold_start_wait: "10s", size: 300 },
});
const resyncMs = 5_000;
const traceMax = 400;
/** A free slot that nobody takes while requests wait for it: longer than the words of workers can be missing. */
const idleMsMax = resyncMs + 4_000;

export async function simulate(seed: number): Promise<Result> {
  const store = await openState("sqlite::memory:", { log: silentLog });
  try {
    const world = new World(scenarioOf(seed), store);
    return await world.run();
  } finally {
    await store[Symbol.asyncDispose]();
  }
}

class World {
  readonly #scenario: Scenario;
  readonly #clock = new EventClock();
  readonly #random: Random;
  readonly #invariants: Invariants;
  readonly #state: State;
  readonly #workers: SimulatedWorker[] = [];
  readonly #schedulers: SimulatedScheduler[] = [];
  readonly #pending = new Set<Pending>();
  readonly #idleSince = new Map<SimulatedWorker, number>();
  readonly #trace: string[] = [];
  #digest = 0;
  #requests = 0;
  #answered = 0;
  #refused = 0;
  #attempts = 0;
  #waitedMsMax = 0;

  constructor(scenario: Scenario, store: State) {
    this.#scenario = scenario;
    this.#random = seededRandom(scenario.seed + 1_000_003);
    this.#invariants = watchInvariants(store, this.#clock, settings);
    this.#state = this.#invariants.state;
  }

  async run(): Promise<Result> {
    const { durationMs } = this.#scenario;
    await this.#begin();
    await this.#steps(durationMs);
    // What was left behind by the dead is swept, and everybody has an answer.
    await this.#steps(45_000);
    await this.#end();
    return {
      seed: this.#scenario.seed,
      violation: this.#invariants.violation?.message,
      trace: this.#trace,
      digest: this.#digest,
      requests: this.#requests,
      answered: this.#answered,
      refused: this.#refused,
      waitedMsMax: Math.round(this.#waitedMsMax),
    };
  }

  async #begin(): Promise<void> {
    const { accounts, schedulers, deaths, killsScheduler, durationMs } = this.#scenario;
    for (const { id, credits, slots } of accounts) {
      const spec = create(AccountSpecSchema, {
        id,
        agent: "demo",
        models: { m: "m" },
        initialMillicredits: BigInt(credits * 1_000),
        millicreditsPerRequest: 1_000n,
        slots,
        queue: 4,
      });
      await this.#state.accounts.create(spec, "api", this.#clock.now());
    }
    for (let index = 0; index < schedulers; index += 1) {
      this.#schedulers.push(createSimulatedScheduler({ ...this.#parts(), name: `s${index}`, settings }));
    }
    for (const account of accounts) {
      for (let index = 0; index < account.workers; index += 1) {
        const publish = (worker: Parameters<SimulatedScheduler["hear"]>[0]) => {
          for (const scheduler of this.#schedulers) scheduler.hear(worker);
        };
        this.#workers.push(new SimulatedWorker({ ...this.#parts(), id: `${account.id}-${index}`, account, publish }));
      }
    }
    for (const scheduler of this.#schedulers) void scheduler.start();
    void this.#every(resyncMs, () => this.#resync());
    this.#resync();
    for (let death = 0; death < deaths; death += 1) {
      const victim = this.#workers[whole(this.#random, 0, this.#workers.length - 1)];
      this.#clock.after(this.#random() * durationMs, () => this.#kill(victim));
    }
    if (killsScheduler && schedulers > 1) this.#clock.after(durationMs / 2, () => void this.#killScheduler());
    this.#arrive();
  }

  #parts() {
    const parts = { clock: this.#clock, random: this.#random, state: this.#state, scenario: this.#scenario };
    return parts;
  }

  async #every(ms: number, work: () => void): Promise<void> {
    for (;;) {
      await this.#clock.sleep(ms);
      work();
    }
  }

  #resync(): void {
    const workers = this.#workers.filter(({ alive }) => alive).map((worker) => worker.describe());
    for (const scheduler of this.#schedulers) if (scheduler.alive) scheduler.resync(workers);
  }

  #kill(worker: SimulatedWorker | undefined): void {
    this.#note(`worker ${worker?.id} dies`);
    worker?.die();
  }

  async #killScheduler(): Promise<void> {
    const victim = this.#schedulers[this.#schedulers.length - 1];
    this.#note(`scheduler ${victim?.name} dies`);
    await victim?.kill();
  }

  /** Requests arrive at random times, with the mean that the scenario names. */
  #arrive(): void {
    const gapMs = (-Math.log(1 - this.#random()) * 1_000) / this.#scenario.arrivals;
    this.#clock.after(gapMs, () => {
      if (this.#clock.monotonic() > this.#scenario.durationMs) return;
      void this.#request();
      this.#arrive();
    });
  }

  async #request(): Promise<void> {
    const id = `r${(this.#requests += 1)}`;
    const random = this.#random;
    const priority = [Priority.LOW, Priority.NORMAL, Priority.HIGH][whole(random, 0, 2)] ?? Priority.NORMAL;
    const userId = `u${whole(random, 1, this.#scenario.users)}`;
    const patience = random() < 0.1 ? random() * 2_000 : Infinity;
    const leaving = new AbortController();
    if (patience < Infinity)
      this.#clock.after(patience, () => leaving.abort(asDrawbridgeError(new Error("left"), "CANCELLED")));
    const excludedAccountIds: string[] = [];
    for (let attempt = 0; attempt < 3; attempt += 1) {
      const attemptId = `${id}/${(this.#attempts += 1)}`;
      const request = create(AcquireRequestSchema, {
        requestId: id,
        attemptId,
        model: "m",
        excludedAccountIds,
        userId,
        priority,
      });
      const outcome = await this.#attempt(request, leaving.signal);
      if (outcome === "again") continue;
      if (outcome === undefined) return;
      excludedAccountIds.push(outcome);
    }
  }

  /** The account to leave out next; "again": ask another scheduler; undefined: the request is over. */
  async #attempt(request: AcquireRequest, signal: AbortSignal): Promise<string | undefined> {
    const scheduler = this.#choose();
    if (!scheduler) return undefined;
    const timeoutMs = 15_000;
    const since = this.#clock.now();
    const excluded = request.excludedAccountIds.length;
    const pending = { name: request.attemptId, since, until: since + timeoutMs + 1_000, excluded };
    this.#pending.add(pending);
    let lease: Lease;
    try {
      lease = await scheduler.acquire(request, signal, timeoutMs);
    } catch (error) {
      const { reason } = asDrawbridgeError(error);
      this.#note(`${request.attemptId} at ${scheduler.name}: ${reason}`);
      if (!scheduler.alive || reason === "STATE_UNAVAILABLE") return "again";
      this.#refused += 1;
      return undefined;
    } finally {
      this.#pending.delete(pending);
      this.#waitedMsMax = Math.max(this.#waitedMsMax, this.#clock.now() - since);
    }
    this.#note(`${request.attemptId} at ${scheduler.name}: ${lease.accountId} on ${lease.workerId}`);
    const worker = this.#workers.find(({ id }) => id === lease.workerId);
    if (worker) this.#idleSince.delete(worker);
    const outcome = await worker?.run(lease);
    if (!outcome) return undefined;
    this.#note(`${request.attemptId} ended: ${outcome.reason}`);
    const told = this.#random() < 0.1 ? this.#choose() : scheduler;
    if (this.#random() >= this.#scenario.lossShare / 2) await told?.report(outcome).catch(() => {});
    if (outcome.reason === ErrorReason.UNSPECIFIED) this.#answered += 1;
    return outcome.reason === ErrorReason.UNSPECIFIED ? undefined : lease.accountId;
  }

  /** undefined: the simulation is over. */
  #choose(): SimulatedScheduler | undefined {
    const alive = this.#schedulers.filter((scheduler) => scheduler.alive);
    const even = this.#random() < this.#scenario.evenShare;
    return even ? alive[whole(this.#random, 0, alive.length - 1)] : alive[0];
  }

  async #steps(ms: number): Promise<void> {
    for (let at = 0; at < ms && !this.#invariants.violation; at += 500) {
      await this.#clock.run(500);
      await this.#check();
    }
    if (!this.#invariants.violation) return;
    for (const scheduler of this.#schedulers) if (scheduler.alive) this.#trace.push(...(await scheduler.explain()));
  }

  /** What can only be seen by looking: idle slots, requests that nobody answers. */
  async #check(): Promise<void> {
    const now = this.#clock.now();
    const [accounts, breakers] = await Promise.all([this.#state.accounts.list(), this.#state.breakers.list()]);
    const blocked = new Set(
      breakers.filter(({ state }) => state !== BreakerState.CLOSED).map((each) => each.accountId),
    );
    const rich = new Set(
      accounts.filter((each) => (each.credits?.available ?? 0n) >= 1_000n).map((each) => each.spec?.id),
    );
    for (const worker of this.#workers) {
      const { id, slots } = worker.account;
      const open = (await this.#state.leases.open(id)).filter(
        (each) => each.workerId === worker.id && each.expiresAt > now,
      );
      const usable = worker.alive && rich.has(id) && !blocked.has(id);
      if (!usable || open.length >= slots || worker.running.size >= slots) this.#idleSince.delete(worker);
      else if (!this.#idleSince.has(worker)) this.#idleSince.set(worker, now);
    }
    for (const pending of this.#pending) {
      if (now > pending.until) this.#invariants.fail(`${pending.name} has no answer after ${now - pending.since} ms`);
      if (pending.excluded > 0) continue;
      for (const [worker, since] of this.#idleSince) {
        const ms = now - Math.max(since, pending.since, worker.upSince);
        if (ms > idleMsMax) this.#invariants.fail(`${pending.name} waits while ${worker.id} is idle for ${ms} ms`);
      }
    }
  }

  async #end(): Promise<void> {
    if (!this.#invariants.violation) {
      if (this.#pending.size > 0) this.#invariants.fail(`${this.#pending.size} requests never had an answer`);
      for (const { id } of this.#scenario.accounts) {
        const account = await this.#state.accounts.get(id);
        const open = await this.#state.leases.open(id);
        if (open.length > 0 || account?.credits?.held !== 0n)
          this.#invariants.fail(`${id}: ${open.length} lost leases`);
      }
      if (this.#invariants.open.size > 0) this.#invariants.fail("a lease was never settled");
    }
    for (const scheduler of this.#schedulers) if (scheduler.alive) await scheduler.kill();
  }

  #note(event: string): void {
    const line = `${this.#clock.monotonic().toFixed(3)} ${event}`;
    for (let index = 0; index < line.length; index += 1) {
      this.#digest = (Math.imul(this.#digest, 31) + line.charCodeAt(index)) | 0;
    }
    if (this.#trace.push(line) > traceMax) this.#trace.shift();
  }
}
