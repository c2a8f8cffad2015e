// One simulated fleet: two controllers on one state, with a driver, a registry and workers that fail, under a virtual clock.
import { create } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import { type AccountSpec, AccountSpecSchema } from "#gen/drawbridge/v1/account";
import type { RegistryService } from "#gen/drawbridge/v1/registry_service";
import type { WorkerService } from "#gen/drawbridge/v1/worker_service";
import { type ControllerApp, createControllerApp } from "../../../services/controller/app.ts";
import { controllerSettings } from "../../../services/controller/config.ts";
import { isExhausted, runsSpec, workerBounds } from "../../../services/controller/desired.ts";
import type { WorkerDriver } from "../../../services/controller/drivers/driver.ts";
import { DrawbridgeError } from "../../../services/kit/errors.ts";
import { silentLog } from "../../../services/kit/log.ts";
import type { Random } from "../../../services/kit/random.ts";
import { parseSettings } from "../../../services/kit/settings.ts";
import { openState } from "../../../services/state/open.ts";
import type { Observable, State } from "../../../services/state/state.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";
import { SimulatedProcess } from "./process.ts";
import { calm, recordOf, type RegistryChange, type SimulatedWorker, SimulatedWorkers } from "./workers.ts";

export const resyncMs = 30_000;
/** After the last fault, what is wanted is there within so many resyncs: a leader's lease, a start that never ends, a back-off, a roll. */
export const resyncsMax = 6;
const faultsMs = 240_000;
const tickMs = 1_000;
/** What a controller acts on may be so old. */
const staleMs = 8_000;

const config = parseSettings(
  controllerSettings,
  {
    resync: "30s",
    start_timeout: "30s",
    drain_grace: "20s",
    leader_lease: "30s",
    leader_renew: "10s",
    backoff_max: "30s",
    registry_caution: "20s",
    mass_failure_wait: "30s",
    scale_to_zero_after: "60s",
    scale_down_after: "60s",
  },
  "simulation",
);

export interface Result {
  readonly violation: string | undefined;
  readonly trace: readonly string[];
  readonly resyncs: number;
  readonly actions: number;
  readonly refused: number;
}

interface Controller {
  readonly name: string;
  readonly process: SimulatedProcess;
  readonly app: ControllerApp;
  /** Killed: it never goes on, and a successor runs. */
  dead: boolean;
  stopping: boolean;
}

interface Wanted {
  readonly spec: AccountSpec | undefined;
  readonly exhausted: boolean;
  readonly until: number;
}

class World {
  readonly clock = new VirtualClock();
  readonly random: Random;
  readonly trace: string[] = [];
  readonly workers: SimulatedWorkers;
  readonly controllers: Controller[] = [];
  readonly actors = new Map<number, string>();
  /** What each account was of late. */
  readonly wanted = new Map<string, Wanted[]>();
  violation: string | undefined;
  actions = 0;
  refused = 0;
  #names = 0;
  readonly state: State;

  constructor(seed: number, state: State) {
    this.random = seededRandom(seed);
    this.workers = new SimulatedWorkers(this.clock, this.random);
    this.state = state;
  }

  note(text: string): void {
    this.trace.push(`${(this.clock.monotonic() / 1_000).toFixed(1).padStart(7)} s  ${text}`);
  }

  violate(text: string): void {
    this.note(`VIOLATION: ${text}`);
    this.violation ??= text;
  }

  below(limit: number): number {
    return Math.floor(this.random() * limit);
  }

  startController(): void {
    const name = `controller-${++this.#names}`;
    const process = new SimulatedProcess(this.clock);
    const app = createControllerApp({
      state: this.#stateFor(process),
      clock: process.clock,
      random: this.random,
      log: silentLog,
      config,
      agents: [],
      profiles: ["demo"],
      registry: this.#registryFor(process),
      worker: (address) => this.#workerFor(address, name, process),
      driver: this.#driverFor(name, process),
      identity: { owner: name, isGone: () => false },
    });
    this.controllers.push({ name, process, app, dead: false, stopping: false });
    this.note(`${name} starts`);
    app.start().catch((error: unknown) => this.violate(`${name} did not start: ${String(error)}`));
  }

  /** An action arrives where it has effect. */
  #fence(what: string, epoch: number, name: string, process: SimulatedProcess): void {
    this.actions++;
    this.note(`${name}, epoch ${epoch}: ${what}`);
    if (epoch < this.workers.epoch) {
      this.refused++;
      if (!process.wasFrozen) this.violate(`${name} acts in epoch ${epoch} after one of ${this.workers.epoch}`);
      throw new DrawbridgeError("NOT_LEADER", `Epoch ${this.workers.epoch} has begun.`);
    }
    this.workers.epoch = epoch;
    const actor = this.actors.get(epoch) ?? name;
    this.actors.set(epoch, actor);
    if (actor !== name) this.violate(`${actor} and ${name} both act in epoch ${epoch}`);
  }

  async #mayFail(): Promise<void> {
    const { faults } = this.workers;
    if (this.workers.happens(faults.slowCalls)) await this.clock.sleep(this.below(4_000));
    if (this.workers.happens(faults.driverErrors)) throw new DrawbridgeError("INTERNAL", "The driver failed.");
  }

  #driverFor(name: string, process: SimulatedProcess): WorkerDriver {
    const { workers } = this;
    return {
      claim: (epoch) =>
        process.call(async () => {
          this.#fence("claim", epoch, name, process);
          await this.#mayFail();
        }),
      create: (spec, epoch) =>
        process.call(async () => {
          this.#fence(`create ${spec.workerId}`, epoch, name, process);
          if (workers.happens(workers.faults.driverErrors)) throw new DrawbridgeError("INTERNAL", "No room.");
          if (!workers.live.has(spec.workerId)) workers.start(spec);
          await this.#mayFail();
        }),
      destroy: (workerId, epoch) =>
        process.call(async () => {
          this.#fence(`destroy ${workerId}`, epoch, name, process);
          if (workers.happens(workers.faults.driverErrors)) throw new DrawbridgeError("INTERNAL", "Not now.");
          this.#justify("destroyed", workerId);
          workers.end(workerId, true);
          await this.#mayFail();
        }),
      list: () =>
        process.call(async () => {
          await this.#mayFail();
          return [...workers.live].map(([workerId, { spec, pid, startedAt }]) => ({ workerId, spec, pid, startedAt }));
        }),
      onExit: (listener) => {
        const hear: typeof listener = (exit) => void process.call(async () => listener(exit));
        workers.exitListeners.add(hear);
        return { [Symbol.dispose]: () => void workers.exitListeners.delete(hear) };
      },
      [Symbol.asyncDispose]: async () => {},
    };
  }

  #workerFor(address: string, name: string, process: SimulatedProcess): Client<typeof WorkerService> {
    const calls = {
      getHealth: () => process.call(async () => ({ worker: recordOf(this.workers.answering(address)) })),
      drain: ({ epoch }: { epoch: bigint }) =>
        process.call(async () => {
          const worker = this.workers.answering(address);
          this.#fence(`drain ${worker.spec.workerId}`, Number(epoch), name, process);
          this.#justify("drained", worker.spec.workerId);
          worker.drainedAt ??= this.clock.now() + this.random() * 10_000;
          return {};
        }),
    };
    return calls as unknown as Client<typeof WorkerService>;
  }

  #registryFor(process: SimulatedProcess): Client<typeof RegistryService> {
    const { workers } = this;
    async function* watch(signal: AbortSignal) {
      const queue: RegistryChange[] = [];
      let wake = () => {};
      const hear = (change: RegistryChange) => {
        queue.push(change);
        wake();
      };
      workers.watchers.add(hear);
      signal.addEventListener("abort", () => wake(), { once: true });
      try {
        const snapshot = [...workers.records.values()].map(({ worker }) => worker);
        yield { element: { case: "snapshot", value: { workers: snapshot } } };
        for (;;) {
          if (queue.length === 0 && !signal.aborted) await new Promise<void>((resolve) => (wake = resolve));
          await process.call(async () => {});
          if (signal.aborted) return;
          // A watcher that was taken out has a broken stream.
          if (!workers.watchers.has(hear)) throw new DrawbridgeError("STATE_UNAVAILABLE", "The stream broke.");
          for (const { put, removed } of queue.splice(0)) {
            if (put) yield { element: { case: "put", value: put } };
            if (removed !== undefined) yield { element: { case: "removedWorkerId", value: removed } };
          }
        }
      } finally {
        workers.watchers.delete(hear);
      }
    }
    const calls = {
      watchWorkers: (_: object, { signal }: { signal: AbortSignal }) => watch(signal),
      deregister: ({ workerId, incarnation }: { workerId: string; incarnation: string }) =>
        process.call(async () => {
          if (workers.happens(workers.faults.driverErrors)) throw new DrawbridgeError("STATE_UNAVAILABLE", "Not now.");
          workers.deregister(workerId, incarnation);
          return {};
        }),
    };
    return calls as unknown as Client<typeof RegistryService>;
  }

  /** The state as this process sees it: hints get lost, and a stopped process asks for no lease. */
  #stateFor(process: SimulatedProcess): State {
    const { state, workers } = this;
    const deaf = <Store extends Observable>(store: Store): Store =>
      override(store, {
        onChange: (listener: () => void) =>
          store.onChange(() => void (workers.happens(workers.faults.lostExits) || process.frozen || listener())),
      });
    return override(state, {
      accounts: deaf(state.accounts),
      demand: deaf(state.demand),
      leader: override(state.leader, {
        acquire: (...args: Parameters<State["leader"]["acquire"]>) => process.call(() => state.leader.acquire(...args)),
      }),
    });
  }

  remember(): Promise<void> {
    return this.state.accounts.list().then((accounts) => {
      const now = this.clock.now();
      const found = new Map(accounts.map((account) => [account.spec?.id ?? "", account]));
      for (const id of new Set([...this.wanted.keys(), ...found.keys()])) {
        const account = found.get(id);
        const past = (this.wanted.get(id) ?? []).filter(({ until }) => now - until < staleMs);
        past.push({ spec: account?.spec, exhausted: account ? isExhausted(account) : false, until: now });
        this.wanted.set(id, past);
      }
    });
  }

  /** Nothing that is wanted is taken away. */
  #justify(how: string, workerId: string): void {
    const now = this.clock.now();
    const worker = this.workers.live.get(workerId);
    if (!worker || worker.drainedAt !== undefined) return;
    // Long enough for its faults to be acted on, with slow calls and a change of leaders between.
    if (now - worker.faultAt < 120_000 || worker.faultAt === Infinity) return;
    const [account] = worker.spec.accounts;
    if (!account) return;
    const views = this.wanted.get(account.id) ?? [];
    const justified = views.some(({ spec, exhausted }) => {
      if (!spec || exhausted || !runs(worker, spec)) return true;
      const others = [...this.workers.live.values()].filter((each) => each !== worker && serves(each, spec));
      return others.length >= workerBounds(spec).min;
    });
    if (!justified) this.violate(`${workerId} was ${how}, and is wanted`);
  }

  async disturb(): Promise<void> {
    const { workers, clock, state } = this;
    const all = [...workers.live.values()];
    const victim = all[this.below(Math.max(1, all.length))];
    const id = `a${this.below(3)}`;
    const now = clock.now();
    const kind = this.below(14);
    if (kind === 0) await this.#changeAccount(id);
    else if (kind === 1) await this.#credits(id);
    else if (kind === 2) await state.demand.report("scheduler", "m", this.below(5), 20_000, now);
    else if (kind === 3) this.#disturbController();
    else if (kind === 4) {
      this.note("the registry's streams break");
      const cut = [...workers.watchers];
      workers.watchers.clear();
      for (const watcher of cut) watcher({});
    } else if (kind === 5 && this.below(3) === 0) {
      this.note("the registry forgets everybody");
      for (const worker of all) worker.faultAt = now;
      for (const [workerId, { worker }] of workers.records) workers.deregister(workerId, worker.incarnation);
    } else if (victim) {
      victim.faultAt = now;
      if (kind <= 7) {
        this.note(`${victim.spec.workerId} dies`);
        workers.end(victim.spec.workerId, false);
      } else if (kind <= 10) victim.silent = !victim.silent;
      else victim.unhealthy = !victim.unhealthy;
    }
  }

  async #changeAccount(id: string): Promise<void> {
    const now = this.clock.now();
    const found = await this.state.accounts.get(id);
    this.note(`account ${id} changes`);
    if (found && this.below(4) === 0) await this.state.accounts.remove(id, 0, now);
    else if (found) await this.state.accounts.update(this.#account(id), 0, now);
    else await this.state.accounts.create(this.#account(id), "api", now);
  }

  async #credits(id: string): Promise<void> {
    if (!(await this.state.accounts.get(id))) return;
    const available = this.below(2) * 100_000;
    this.note(`account ${id} has ${available}`);
    await this.state.accounts.setAvailable(id, available, this.clock.now());
  }

  #account(id: string): AccountSpec {
    const min = this.below(4);
    const max = Math.max(1, min) + this.below(2);
    const fields = { agent: "demo", models: { m: "m" }, slots: 1 + this.below(3), queue: 4, workers: { min, max } };
    return create(AccountSpecSchema, { id, initialMillicredits: 100_000n, millicreditsPerRequest: 1_000n, ...fields });
  }

  #disturbController(): void {
    const running = this.controllers.filter(({ dead, stopping }) => !dead && !stopping);
    const one = running[this.below(running.length)];
    if (!one) return;
    const kind = this.below(3);
    if (one.process.frozen) {
      this.note(`${one.name} goes on`);
      one.process.thaw();
    } else if (kind === 0) {
      this.note(`${one.name} is killed`);
      one.process.freeze();
      one.dead = true;
      this.startController();
    } else if (kind === 1) {
      this.note(`${one.name} is stopped in its tracks`);
      one.process.freeze();
    } else {
      this.note(`${one.name} stops`);
      this.stop(one);
      this.startController();
    }
  }

  stop(one: Controller): void {
    one.stopping = true;
    const ended = () => (one.dead = true);
    one.app[Symbol.asyncDispose]().then(ended, (error: unknown) => this.violate(`${one.name}: ${String(error)}`));
  }

  calm(): void {
    this.note("the faults are over");
    this.workers.faults = calm;
    for (const { process, dead } of this.controllers) if (!dead) process.thaw();
    for (const worker of this.workers.live.values()) {
      worker.silent = false;
      worker.unhealthy = false;
    }
  }

  /** What is not yet as it is wanted. */
  async difference(): Promise<string | undefined> {
    const accounts = await this.state.accounts.list();
    const known = new Map(accounts.map((account) => [account.spec?.id ?? "", account]));
    for (const [id, worker] of this.workers.live) {
      const account = known.get(worker.spec.accounts[0]?.id ?? "");
      if (!account?.spec) return `${id} runs, and its account is gone`;
      if (isExhausted(account)) return `${id} runs, and its account has no credits`;
      if (!serves(worker, account.spec) || !worker.registered) return `${id} is not what is wanted`;
    }
    for (const account of accounts) {
      const { min, max } = workerBounds(account.spec);
      const mine = [...this.workers.live.values()].filter(({ spec }) => spec.accounts[0]?.id === account.spec?.id);
      if (isExhausted(account)) continue;
      if (mine.length < min || mine.length > max) return `${account.spec?.id} has ${mine.length} of ${min} to ${max}`;
    }
    return undefined;
  }

  async step(): Promise<void> {
    await this.remember();
    await this.clock.advance(tickMs);
    this.workers.tick();
  }
}

function runs(worker: SimulatedWorker, spec: AccountSpec): boolean {
  return runsSpec({ workerId: "", spec: worker.spec, pid: 0, startedAt: 0 }, spec, []);
}

function serves(worker: SimulatedWorker, spec: AccountSpec): boolean {
  return worker.drainedAt === undefined && runs(worker, spec);
}

function override<Target extends object>(target: Target, changes: object): Target {
  return new Proxy(target, {
    get(_, name) {
      if (name in changes) return Reflect.get(changes, name);
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** One seed, to its end. */
export async function simulate(seed: number): Promise<Result> {
  await using state = await openState("sqlite::memory:", { log: silentLog });
  const world = new World(seed, state);
  const level = world.random();
  world.workers.faults = {
    driverErrors: level * 0.2,
    slowCalls: level * 0.2,
    lostExits: level * 0.5,
    brokenStarts: level * 0.2,
  };
  world.startController();
  world.startController();
  for (let time = 0; time < faultsMs && world.violation === undefined; time += tickMs) {
    if (world.random() < 0.15) await world.disturb();
    await world.step();
  }
  world.calm();
  let resyncs = 0;
  let left = await world.difference();
  for (let time = 0; left !== undefined && world.violation === undefined; time += tickMs) {
    resyncs = Math.ceil(time / resyncMs);
    if (resyncs > resyncsMax) world.violate(`after ${resyncsMax} resyncs without a fault, ${left}`);
    await world.step();
    left = await world.difference();
  }
  for (const one of world.controllers) if (!one.dead && !one.stopping) world.stop(one);
  const running = () => world.controllers.some(({ dead }) => !dead);
  for (let time = 0; running() && time < 60_000; time += tickMs) await world.step();
  if (running()) world.violate("a controller does not end");
  const { violation, trace, actions, refused } = world;
  return { violation, trace, resyncs, actions, refused };
}
