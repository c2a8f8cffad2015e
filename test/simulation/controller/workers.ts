// The workers of a simulation: processes that a driver starts, register after a while, fall silent, feel ill, drain and die.
import { create } from "@bufbuild/protobuf";
import type { WorkerSpec } from "#gen/drawbridge/v1/account";
import { Health, type Worker, WorkerSchema } from "#gen/drawbridge/v1/worker";
import type { WorkerExit } from "../../../services/controller/drivers/driver.ts";
import { DrawbridgeError } from "../../../services/kit/errors.ts";
import type { Random } from "../../../services/kit/random.ts";
import type { VirtualClock } from "../../support/virtual-clock.ts";

export interface SimulatedWorker {
  readonly spec: WorkerSpec;
  readonly incarnation: string;
  readonly pid: number;
  readonly startedAt: number;
  /** When it registers; Infinity: never. */
  readsAt: number;
  registered: boolean;
  silent: boolean;
  unhealthy: boolean;
  /** When it last had any fault, in ms. */
  faultAt: number;
  /** When it ends, once it drains. */
  drainedAt: number | undefined;
}

/** How things go wrong; all 0: nothing does. */
export interface Faults {
  driverErrors: number;
  slowCalls: number;
  lostExits: number;
  brokenStarts: number;
}

export const calm: Faults = { driverErrors: 0, slowCalls: 0, lostExits: 0, brokenStarts: 0 };

export interface RegistryChange {
  readonly put?: Worker;
  readonly removed?: string;
}

const leaseMs = 15_000;
const slowCallMs = 4_000;
const drainMs = 10_000;

export class SimulatedWorkers {
  readonly live = new Map<string, SimulatedWorker>();
  /** The registry's records, which outlive their workers for a while. */
  readonly records = new Map<string, { worker: Worker; endsAt: number }>();
  readonly watchers = new Set<(change: RegistryChange) => void>();
  readonly exitListeners = new Set<(exit: WorkerExit) => void>();
  faults: Faults = calm;
  #pids = 0;
  readonly #clock: VirtualClock;
  readonly #random: Random;

  constructor(clock: VirtualClock, random: Random) {
    this.#clock = clock;
    this.#random = random;
  }

  happens(probability: number): boolean {
    return this.#random() < probability;
  }

  /** What any call to a driver may do. */
  async mayFail(): Promise<void> {
    if (this.happens(this.faults.slowCalls)) await this.#clock.sleep(Math.floor(this.#random() * slowCallMs));
    if (this.happens(this.faults.driverErrors)) throw new DrawbridgeError("INTERNAL", "The driver failed.");
  }

  start(spec: WorkerSpec): void {
    const now = this.#clock.now();
    const pid = ++this.#pids;
    const delayMs = this.happens(this.faults.brokenStarts) ? Infinity : 500 + this.#random() * 5_000;
    this.live.set(spec.workerId, {
      spec,
      pid,
      incarnation: `inc-${pid}`,
      startedAt: now,
      readsAt: now + delayMs,
      registered: false,
      silent: false,
      unhealthy: false,
      faultAt: -Infinity,
      drainedAt: undefined,
    });
  }

  drain(worker: SimulatedWorker): void {
    worker.drainedAt ??= this.#clock.now() + this.#random() * drainMs;
  }

  end(workerId: string, requested: boolean): void {
    const worker = this.live.get(workerId);
    if (!worker) return;
    this.live.delete(workerId);
    if (this.happens(this.faults.lostExits)) return;
    const { spec, pid, startedAt } = worker;
    const exit: WorkerExit = { workerId, spec, pid, startedAt, code: 0, signal: undefined, requested };
    for (const listener of this.exitListeners) listener(exit);
  }

  /** Time has passed: registrations, beats, ends. */
  tick(): void {
    const now = this.#clock.now();
    for (const [id, worker] of this.live) {
      if (worker.drainedAt !== undefined && now >= worker.drainedAt) {
        this.deregister(id, worker.incarnation);
        this.end(id, false);
      } else if (now >= worker.readsAt && !worker.silent) this.#beat(id, worker);
    }
    for (const [id, { endsAt, worker }] of this.records) {
      if (now >= endsAt) this.deregister(id, worker.incarnation);
    }
  }

  deregister(workerId: string, incarnation: string): void {
    if (this.records.get(workerId)?.worker.incarnation !== incarnation) return;
    this.records.delete(workerId);
    for (const watcher of this.watchers) watcher({ removed: workerId });
  }

  /** The worker behind an address, if it answers. */
  answering(address: string): SimulatedWorker {
    for (const worker of this.live.values()) {
      if (addressOf(worker) === address && !worker.silent) return worker;
    }
    throw new DrawbridgeError("WORKER_UNREACHABLE", `Nobody answers at ${address}.`);
  }

  #beat(id: string, worker: SimulatedWorker): void {
    worker.registered = true;
    const before = this.records.get(id);
    const record = recordOf(worker);
    this.records.set(id, { worker: record, endsAt: this.#clock.now() + leaseMs });
    if (before?.worker.incarnation === record.incarnation && before.worker.health === record.health) return;
    for (const watcher of this.watchers) watcher({ put: record });
  }
}

export function addressOf({ spec, incarnation }: SimulatedWorker): string {
  return `http://${spec.workerId}.${incarnation}`;
}

export function recordOf(worker: SimulatedWorker): Worker {
  const { spec, incarnation, pid } = worker;
  const health =
    worker.drainedAt !== undefined ? Health.DRAINING : worker.unhealthy ? Health.UNHEALTHY : Health.HEALTHY;
  return create(WorkerSchema, {
    id: spec.workerId,
    incarnation,
    pid,
    address: addressOf(worker),
    health,
    healthReason: "",
    pools: spec.accounts.map(({ id, slots }) => ({
      accountId: id,
      generation: spec.generations[id] ?? 0n,
      models: ["m"],
      slots,
      availableSlots: slots,
      queueDepth: 0,
      health,
    })),
  });
}
