// The agent processes of one account, and the prompts that wait for them. Every change ends in `reconcile`, which does what the plan says.
import { create } from "@bufbuild/protobuf";
import type { AccountSpec } from "#gen/drawbridge/v1/account";
import { Health, type PoolStatus, PoolStatusSchema } from "#gen/drawbridge/v1/worker";
import type { Clock } from "../../kit/clock.ts";
import { asDrawbridgeError, DrawbridgeError } from "../../kit/errors.ts";
import type { Log } from "../../kit/log.ts";
import type { Random } from "../../kit/random.ts";
import type { Agent } from "../protocol/agent.ts";
import type { WorkerSettings } from "../config.ts";
import { createFailureRecord } from "./pool-failures.ts";
import { givesUp, type PoolFacts, poolHealth } from "./pool-health.ts";
import { createMember, type Equipment, type Leftover, type Member } from "./pool-member.ts";
import { type Phase, planPool, type PoolAction } from "./pool-plan.ts";
import type { AgentProfile } from "../profiles/profile.ts";
import type { StartGate } from "./start-gate.ts";

export interface PoolOptions {
  readonly account: AccountSpec;
  readonly generation: bigint;
  readonly profile: AgentProfile;
  /** Starts a process for a model, by the agent's name. Aborting the signal ends the start, and the process. */
  readonly startAgent: (model: string, signal: AbortSignal) => Promise<Agent>;
  /** Resident memory of a process and all that it started, in bytes, where that can be known. */
  readonly measureMemory: (pid: number) => Promise<number | undefined>;
  /** Bounds the starts of all pools together. */
  readonly gate: StartGate;
  readonly config: WorkerSettings;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Told when slots, queue or health changed. */
  readonly onChange: () => void;
}

/** A process with a ready session, for one prompt. */
export interface Place extends Equipment {
  /** Its prompt waits for its client, and takes no slot meanwhile; or goes on. */
  park(parked: boolean): void;
  /** Gives it back, once. `completed`: the agent finished its turn, so it works. */
  release(leftover: Leftover & { readonly completed: boolean }): void;
}

/** A prompt's place in the queue. */
export interface Ticket {
  /** Rejects with the reason given to `leave`, or when the pool gives up. */
  readonly place: Promise<Place>;
  /** Gives the place in the queue up. */
  leave(reason: unknown): void;
}

export interface Pool {
  readonly account: AccountSpec;
  start(): void;
  /**
   * Enters the queue, for the agent's name of a model. `preferred`: the process to get if it is free when a place is. QUEUE_FULL, or why the
   * pool has no process at all.
   */
  enter(model: string, preferred?: Agent): Ticket;
  /** Whether a prompt could take this process now. */
  isReady(agent: Agent): boolean;
  status(): PoolStatus;
  /** Keeps only processes that prompts wait for. */
  drain(): void;
  /** Ends all processes. Resolves when they are gone. */
  stop(): Promise<void>;
}

interface Waiter {
  readonly id: number;
  readonly model: string;
  readonly preferred: number | undefined;
  readonly resolve: (place: Place) => void;
  readonly reject: (reason: unknown) => void;
}

/** How often the plan is asked for what comes by itself: age and idleness. */
const tendMs = 5_000;

export function createPool(options: PoolOptions): Pool {
  const { account, profile, config, clock, log, gate } = options;
  const members = new Map<number, Member>();
  const waiters = new Map<number, Waiter>();
  const pending = new Set<Promise<void>>();
  const failures = createFailureRecord(options);
  let lastModel = Object.values(account.models)[0] ?? "";
  let nextId = 1;
  let running = false;
  let draining = false;
  let everReady = false;
  let timer: Disposable | undefined;
  let tendAtMs = 0;
  gate.onFree(reconcile);

  const inPhase = (...phases: Phase[]) => [...members.values()].filter(({ phase }) => phases.includes(phase));
  const admitted = () => waiters.size + inPhase("busy").length;
  const facts = (): PoolFacts => ({
    draining,
    usable: inPhase("ready", "busy", "parked", "preparing").length,
    everReady,
    failures: failures.count,
    lastFailure: failures.last,
  });

  function reconcile(): void {
    if (!running) return;
    everReady ||= inPhase("ready").length > 0;
    if (failures.last) failures.forgive(inPhase("ready", "busy"));
    const backoffMs = failures.backoffMs();
    const actions = planPool({
      nowMs: clock.monotonic(),
      slots: account.slots,
      processesMin: draining ? 0 : Math.min(config.processes_min, account.slots),
      members: [...members.values()],
      waiters: [...waiters.values()],
      modelAtStart: profile.modelAtStart,
      defaultModel: lastModel,
      startsAllowed: backoffMs > 0 ? 0 : gate.free,
      turnsMax: Math.min(config.process_turns_max, profile.recycling?.turnsMax ?? Infinity),
      ageMaxMs: Math.min(config.process_age_max, profile.recycling?.ageMsMax ?? Infinity),
      memoryBytesMax: Math.min(config.process_memory_max, profile.recycling?.memoryBytesMax ?? Infinity),
      idleMaxMs: config.process_idle_timeout,
    });
    for (const action of actions) perform(action);
    tendWithin(backoffMs > 0 ? Math.min(tendMs, backoffMs) : tendMs);
    options.onChange();
  }

  /** One timer, moved only to an earlier time: much more happens in a pool than anybody has to wait for. */
  function tendWithin(ms: number): void {
    const atMs = clock.monotonic() + ms;
    if (timer && tendAtMs <= atMs) return;
    timer?.[Symbol.dispose]();
    tendAtMs = atMs;
    timer = clock.after(ms, tend);
  }

  /** What changes by itself is looked at. */
  function tend(): void {
    timer = undefined;
    for (const member of inPhase("ready")) {
      void member.weigh().catch((error: unknown) => log.warn({ err: error }, "memory could not be measured"));
    }
    reconcile();
  }

  function perform(action: PoolAction): void {
    if (action.kind === "start") return begin(action.model);
    const member = members.get(action.member);
    if (!member) return;
    if (action.kind === "assign") return hand(member, action.waiter);
    log.info({ why: action.why }, "ending an agent process");
    retire(member);
  }

  /** Work that must be over before the pool is. The plan is asked again when it is. */
  function track(work: Promise<void>): void {
    const tracked = work.finally(() => {
      pending.delete(tracked);
      reconcile();
    });
    pending.add(tracked);
  }

  function begin(model: string): void {
    const id = nextId++;
    const onLost = (error: DrawbridgeError) => {
      fail(member, error);
      reconcile();
    };
    const member = createMember({
      id,
      model,
      startAgent: options.startAgent,
      measure: options.measureMemory,
      measureGapMs: config.process_memory_interval,
      clock,
      log,
      onLost,
    });
    members.set(id, member);
    const leaveGate = gate.enter();
    track(attempt(member, member.bringUp()).finally(leaveGate));
  }

  /** A member's work; its failure is the member's end. */
  async function attempt(member: Member, work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (error) {
      fail(member, asDrawbridgeError(error, "AGENT_CRASHED"));
    }
  }

  /** A process could not be started or prepared, or ended while it had nothing to do. */
  function fail(member: Member, error: DrawbridgeError): void {
    if (member.phase === "stopping") return;
    log.warn({ err: error }, "an agent process failed");
    failures.add(error);
    retire(member);
    if (!givesUp(facts())) return;
    for (const waiter of waiters.values()) waiter.reject(error);
    waiters.clear();
  }

  function hand(member: Member, waiterId: number): void {
    const waiter = waiters.get(waiterId);
    if (!waiter) return;
    waiters.delete(waiterId);
    lastModel = waiter.model;
    const equipment = member.take();
    waiter.resolve({
      ...equipment,
      park: (parked) => park(member, parked),
      release: (leftover) => takeBack(member, equipment, leftover),
    });
  }

  function park(member: Member, parked: boolean): void {
    member.park(parked);
    reconcile();
  }

  function takeBack(member: Member, { agent }: Equipment, leftover: Parameters<Place["release"]>[0]): void {
    if (leftover.completed) failures.clear();
    if (agent.ended.aborted) {
      // Its prompt has told why. That is no failure of the pool yet: the next process may be fine.
      if (agent.crashed) failures.crashed(agent.ended.reason as DrawbridgeError);
      retire(member);
      return;
    }
    track(attempt(member, member.prepare(leftover, profile.modelAtStart ? member.model : lastModel)));
    options.onChange();
  }

  function retire(member: Member): void {
    const gone = async () => {
      try {
        await member.retire();
      } catch (error) {
        log.error({ err: error }, "an agent process could not be cleaned up");
      }
      members.delete(member.id);
    };
    track(gone());
  }

  return {
    account,
    start() {
      running = true;
      reconcile();
    },
    enter(model, preferred) {
      if (admitted() >= account.slots + account.queue) {
        throw new DrawbridgeError(
          "QUEUE_FULL",
          `Account ${account.id} runs and queues all the prompts that it may. Try again later.`,
        );
      }
      const state = facts();
      if (givesUp(state) && state.lastFailure) throw unavailable(state.lastFailure, failures.backoffMs());
      const { promise: place, resolve, reject } = Promise.withResolvers<Place>();
      const id = nextId++;
      const holder = preferred && [...members.values()].find(({ agent }) => agent === preferred);
      waiters.set(id, { id, model, preferred: holder?.id, resolve, reject });
      reconcile();
      return {
        place,
        leave(reason) {
          if (!waiters.delete(id)) return;
          reject(reason);
          reconcile();
        },
      };
    },
    isReady: (agent) => inPhase("ready").some((member) => member.agent === agent),
    status() {
      const { health, reason } = poolHealth(facts());
      const open = health === Health.HEALTHY || health === Health.DEGRADED;
      return create(PoolStatusSchema, {
        accountId: account.id,
        generation: options.generation,
        models: Object.keys(account.models),
        slots: account.slots,
        availableSlots: open ? Math.max(0, account.slots - admitted()) : 0,
        queueLimit: account.queue,
        queueDepth: Math.max(0, admitted() - account.slots),
        health,
        healthReason: reason.slice(0, 1024),
        processes: members.size,
      });
    },
    drain() {
      draining = true;
      reconcile();
    },
    async stop() {
      draining = true;
      running = false;
      timer?.[Symbol.dispose]();
      for (const waiter of waiters.values()) waiter.reject(new DrawbridgeError("DRAINING", "The worker stopped."));
      waiters.clear();
      for (const member of members.values()) if (member.phase !== "stopping") retire(member);
      while (pending.size > 0) await Promise.all(pending);
    },
  };
}

/** Why there is no process. What is wrong with the account's settings is no fault of who asks. */
function unavailable(failure: DrawbridgeError, retryAfterMs: number): DrawbridgeError {
  const reason = failure.reason === "INVALID_ARGUMENT" ? "AGENT_CRASHED" : failure.reason;
  return new DrawbridgeError(reason, failure.message, { cause: failure, retryAfterMs });
}
