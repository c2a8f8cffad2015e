// Simulated workers: pools that run prompts for a while, die and come back, and tell the schedulers late, out of order, or not at all.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import type { Lease } from "#gen/drawbridge/v1/scheduler_service";
import { End, type Outcome, OutcomeSchema } from "#gen/drawbridge/v1/usage";
import { Health, type Worker, WorkerSchema } from "#gen/drawbridge/v1/worker";
import type { Random } from "../../../services/kit/random.ts";
import type { State } from "../../../services/state/state.ts";
import type { EventClock } from "./event-clock.ts";
import type { AccountScenario } from "./scenario.ts";

const leaseTtlMs = 15_000;
const heartbeatMs = 5_000;
const restartMs = 3_000;

export interface SimulatedWorkerOptions {
  readonly id: string;
  readonly account: AccountScenario;
  readonly clock: EventClock;
  readonly random: Random;
  readonly state: State;
  /** Tells the schedulers; they hear of it or not. */
  readonly publish: (worker: Worker) => void;
}

export class SimulatedWorker {
  readonly id: string;
  readonly account: AccountScenario;
  readonly running = new Map<string, (outcome: Outcome) => void>();
  alive = true;
  /** Since when it is up. */
  upSince: number;
  #incarnation = 1;
  #revision = 0n;
  #telling = false;
  readonly #options: SimulatedWorkerOptions;

  constructor(options: SimulatedWorkerOptions) {
    this.#options = options;
    this.id = options.id;
    this.account = options.account;
    this.upSince = options.clock.now();
    this.tell();
    void this.#beat();
  }

  describe(): Worker {
    const { slots } = this.account;
    this.#revision += 1n;
    return create(WorkerSchema, {
      id: this.id,
      incarnation: `${this.id}/${this.#incarnation}`,
      address: this.id,
      revision: this.#revision,
      pools: [
        {
          accountId: this.account.id,
          models: ["m"],
          slots,
          availableSlots: Math.max(0, slots - this.running.size),
          queueDepth: Math.max(0, this.running.size - slots),
          queueLimit: 4,
          health: Health.HEALTHY,
        },
      ],
    });
  }

  /** Runs a prompt to its end. */
  async run(lease: Lease): Promise<Outcome> {
    const { clock, random } = this.#options;
    const { slots, serviceMs, failureShare, rateLimitShare } = this.account;
    if (!this.alive || lease.workerIncarnation !== `${this.id}/${this.#incarnation}`) {
      return this.#outcome(lease, ErrorReason.WORKER_UNREACHABLE);
    }
    if (this.running.size >= slots + 4) return this.#outcome(lease, ErrorReason.QUEUE_FULL);
    const { promise, resolve } = Promise.withResolvers<Outcome>();
    this.running.set(lease.attemptId, resolve);
    this.#changed();
    const [least, most] = serviceMs;
    const chance = random();
    const reason =
      chance < failureShare
        ? ErrorReason.AGENT_ERROR
        : chance < failureShare + rateLimitShare
          ? ErrorReason.AGENT_RATE_LIMITED
          : ErrorReason.UNSPECIFIED;
    const duration = reason === ErrorReason.UNSPECIFIED ? least + random() * (most - least) : least / 4;
    const startedAt = clock.now();
    clock.after(duration, () => {
      if (this.running.delete(lease.attemptId)) void this.#end(this.#outcome(lease, reason, startedAt), resolve);
    });
    return promise;
  }

  /** Everything that runs ends as for a client whose connection breaks; the worker comes back as another incarnation. */
  die(): void {
    if (!this.alive) return;
    this.alive = false;
    const { clock } = this.#options;
    for (const [attemptId, resolve] of this.running) {
      resolve(this.#outcome({ attemptId } as Lease, ErrorReason.WORKER_UNREACHABLE));
    }
    this.running.clear();
    clock.after(restartMs, () => {
      this.alive = true;
      this.upSince = clock.now();
      this.#incarnation += 1;
      this.tell();
    });
  }

  tell(): void {
    if (this.alive) this.#options.publish(this.describe());
  }

  async #end(outcome: Outcome, resolve: (outcome: Outcome) => void): Promise<void> {
    const { state, clock, random } = this.#options;
    this.#changed();
    resolve(outcome);
    // The worker's own report: soon, or with a later beat.
    await clock.sleep(random() < 0.5 ? 60 : heartbeatMs);
    await state.leases.settle(outcome, clock.now());
  }

  #changed(): void {
    if (this.#telling) return;
    this.#telling = true;
    this.#options.clock.after(50, () => {
      this.#telling = false;
      this.tell();
    });
  }

  async #beat(): Promise<void> {
    const { clock, state } = this.#options;
    for (;;) {
      await clock.sleep(heartbeatMs);
      await state.leases.renew(this.account.id, [...this.running.keys()], clock.now() + leaseTtlMs);
    }
  }

  #outcome({ attemptId, requestId }: Lease, reason: ErrorReason, startedAt?: number): Outcome {
    const now = this.#options.clock.now();
    const finished = reason === ErrorReason.UNSPECIFIED;
    return create(OutcomeSchema, {
      attemptId,
      requestId: requestId || "r",
      accountId: this.account.id,
      workerId: this.id,
      end: finished ? End.FINISHED : End.FAILED_BEFORE_CONTENT,
      content: finished,
      reason,
      ...(startedAt === undefined ? {} : { startedAt: timestampFromMs(startedAt) }),
      ...(finished ? { firstContentAt: timestampFromMs(now) } : {}),
      endedAt: timestampFromMs(now),
    });
  }
}
