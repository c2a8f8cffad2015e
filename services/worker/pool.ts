// The agent processes of one account, and the prompts that wait for them. Every change ends in `reconcile`, which does what the plan says.
import { create } from "@bufbuild/protobuf";
import type { AccountSpec } from "#gen/drawbridge/v1/account";
import { Health, type PoolStatus, PoolStatusSchema } from "#gen/drawbridge/v1/worker";
import type { Clock } from "../kit/clock.ts";
import { asDrawbridgeError, DrawbridgeError } from "../kit/errors.ts";
import type { Log } from "../kit/log.ts";
import { backoffMs, type Random } from "../kit/random.ts";
import type { Agent, AgentSession } from "./agent.ts";
import type { WorkerSettings } from "./config.ts";
import { givesUp, type PoolFacts, poolHealth } from "./pool-health.ts";
import { type Phase, planPool, type PoolAction } from "./pool-plan.ts";
import type { AgentProfile } from "./profiles/profile.ts";
import type { StartGate } from "./start-gate.ts";

export interface PoolOptions {
  readonly account: AccountSpec;
  readonly generation: bigint;
  readonly profile: AgentProfile;
  /** Starts a process for a model, by the agent's name. Aborting the signal ends the start, and the process. */
  readonly startAgent: (model: string, signal: AbortSignal) => Promise<Agent>;
  /** Bounds the starts of all pools together. */
  readonly gate: StartGate;
  readonly config: WorkerSettings;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Told when slots, queue or health changed. */
  readonly onChange: () => void;
}

/** A process with a session, for one prompt. */
export interface Place {
  readonly agent: Agent;
  readonly session: AgentSession;
  /** Gives it back. `completed`: the agent finished a turn, so it works. */
  release(completed: boolean): void;
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
  /** Enters the queue, for the agent's name of a model. QUEUE_FULL, or why the pool has no process at all. */
  enter(model: string): Ticket;
  status(): PoolStatus;
  /** No new processes but for prompts that wait. */
  drain(): void;
  /** Ends all processes. Resolves when they are gone. */
  stop(): Promise<void>;
}

interface Member {
  readonly id: number;
  readonly model: string;
  readonly startedAtMs: number;
  phase: Phase;
  turns: number;
  readyAtMs: number;
  agent: Agent | undefined;
  session: AgentSession | undefined;
}

interface Waiter {
  readonly id: number;
  readonly model: string;
  readonly resolve: (place: Place) => void;
  readonly reject: (reason: unknown) => void;
}

/** How often the plan is asked when nothing happens, for age and idleness. */
const tendMs = 5_000;
/** A process that lives so long ends a series of failures. */
const stableMs = 10_000;

export function createPool(options: PoolOptions): Pool {
  const { account, profile, config, clock, random, log, gate } = options;
  const members = new Map<number, Member>();
  const waiters = new Map<number, Waiter>();
  const pending = new Set<Promise<void>>();
  const stopping = new AbortController();
  const defaultModel = Object.values(account.models)[0] ?? "";
  let lastModel = defaultModel;
  let nextId = 1;
  let running = false;
  let draining = false;
  let everReady = false;
  let failures = 0;
  let lastFailure: DrawbridgeError | undefined;
  let backoffUntilMs = 0;
  let timer: Disposable | undefined;

  const inPhase = (...phases: Phase[]) => [...members.values()].filter(({ phase }) => phases.includes(phase));
  const facts = (): PoolFacts => ({
    draining,
    usable: inPhase("ready", "busy", "preparing").length,
    everReady,
    failures,
    lastFailure,
  });

  function reconcile(): void {
    if (!running) return;
    const nowMs = clock.monotonic();
    const backingOff = nowMs < backoffUntilMs;
    if (failures > 0 && inPhase("ready", "busy").some(({ startedAtMs }) => nowMs - startedAtMs >= stableMs)) recover();
    const actions = planPool({
      nowMs,
      slots: account.slots,
      processesMin: draining ? 0 : Math.min(config.processes_min, account.slots),
      members: [...members.values()],
      waiters: [...waiters.values()],
      modelAtStart: profile.modelAtStart,
      defaultModel: lastModel,
      startsAllowed: backingOff ? 0 : gate.free,
      turnsMax: Math.min(config.process_turns_max, profile.turnsMax ?? Infinity),
      ageMaxMs: config.process_age_max,
      idleMaxMs: config.process_idle_timeout,
    });
    for (const action of actions) perform(action);
    timer?.[Symbol.dispose]();
    timer = clock.after(backingOff ? Math.min(tendMs, backoffUntilMs - nowMs) : tendMs, reconcile);
    options.onChange();
  }

  function perform(action: PoolAction): void {
    if (action.kind === "start") return begin(action.model);
    const member = members.get(action.member);
    if (!member) return;
    if (action.kind === "assign") return hand(member, action.waiter);
    log.info({ pid: member.agent?.pid, why: action.why }, "ending an agent process");
    retire(member);
  }

  function begin(model: string): void {
    const nowMs = clock.monotonic();
    const member: Member = {
      id: nextId++,
      model,
      startedAtMs: nowMs,
      phase: "starting",
      turns: 0,
      readyAtMs: nowMs,
      agent: undefined,
      session: undefined,
    };
    members.set(member.id, member);
    const leaveGate = gate.enter();
    track(
      bringUp(member)
        .catch((error: unknown) => onFailure(member, asDrawbridgeError(error, "AGENT_CRASHED")))
        .finally(leaveGate),
    );
  }

  /** Work that must be over before the pool is; the plan is asked again when it is. */
  function track(work: Promise<void>): void {
    const tracked = work.finally(() => {
      pending.delete(tracked);
      reconcile();
    });
    pending.add(tracked);
  }

  async function bringUp(member: Member): Promise<void> {
    const agent = await options.startAgent(member.model, stopping.signal);
    member.agent = agent;
    if (!members.has(member.id) || member.phase === "stopping") return retire(member);
    agent.ended.addEventListener("abort", () => onEnded(member, agent.ended.reason as DrawbridgeError), { once: true });
    member.session = await agent.openSession(member.model);
    // It may have ended, or been stopped, meanwhile.
    if (member.phase !== "starting") return;
    log.info({ pid: agent.pid, ms: Math.round(clock.monotonic() - member.startedAtMs) }, "an agent process is ready");
    becomeReady(member);
  }

  function becomeReady(member: Member): void {
    member.phase = "ready";
    member.readyAtMs = clock.monotonic();
    everReady = true;
  }

  function recover(): void {
    failures = 0;
    lastFailure = undefined;
  }

  /** A process could not be started, or ended while it had nothing to do. */
  function onFailure(member: Member, error: DrawbridgeError): void {
    if (member.phase === "stopping") return;
    failures += 1;
    lastFailure = error;
    backoffUntilMs =
      clock.monotonic() + backoffMs(failures, config.restart_backoff, config.restart_backoff_max, random);
    log.warn({ err: error, failures }, "an agent process failed");
    retire(member);
    if (!givesUp(facts())) return;
    for (const waiter of waiters.values()) waiter.reject(error);
    waiters.clear();
  }

  function onEnded(member: Member, error: DrawbridgeError): void {
    // A prompt that runs there fails by itself and releases its place; a failed start reports itself.
    if (member.phase === "ready" || member.phase === "preparing") {
      onFailure(member, error);
      reconcile();
    }
  }

  function hand(member: Member, waiterId: number): void {
    const waiter = waiters.get(waiterId);
    const { agent, session } = member;
    if (!waiter || !agent || !session) return;
    waiters.delete(waiterId);
    member.phase = "busy";
    member.session = undefined;
    lastModel = waiter.model;
    let released = false;
    waiter.resolve({
      agent,
      session,
      release(completed) {
        if (released) return;
        released = true;
        member.turns += 1;
        if (completed) recover();
        track(
          prepare(member, agent, session).catch((error: unknown) =>
            onFailure(member, asDrawbridgeError(error, "AGENT_CRASHED")),
          ),
        );
        options.onChange();
      },
    });
  }

  /** Between two prompts: the session goes, the next one comes, so that a prompt finds it ready. */
  async function prepare(member: Member, agent: Agent, used: AgentSession): Promise<void> {
    if (agent.ended.aborted) {
      log.warn({ err: agent.ended.reason as unknown, pid: agent.pid }, "an agent process ended during a prompt");
      return retire(member);
    }
    member.phase = "preparing";
    await agent.closeSession(used);
    const session = await agent.openSession(profile.modelAtStart ? member.model : lastModel);
    if (member.phase !== "preparing") return;
    member.session = session;
    becomeReady(member);
  }

  function retire(member: Member): void {
    member.phase = "stopping";
    const { agent } = member;
    if (!agent) {
      // It never came up; or it is still on its way, and is retired again when it is there.
      members.delete(member.id);
      return;
    }
    track(
      agent
        .stop()
        .catch((error: unknown) =>
          log.error({ err: error, pid: agent.pid }, "an agent process could not be cleaned up"),
        )
        .then(() => void members.delete(member.id)),
    );
  }

  function enter(model: string): Ticket {
    if (waiters.size + inPhase("busy").length >= account.slots + account.queue) {
      throw new DrawbridgeError(
        "QUEUE_FULL",
        `Account ${account.id} has ${account.slots} prompts running and ${account.queue} waiting. Try again later.`,
      );
    }
    const state = facts();
    if (givesUp(state) && state.lastFailure) throw unavailable(state.lastFailure);
    const { promise: place, resolve, reject } = Promise.withResolvers<Place>();
    const id = nextId++;
    waiters.set(id, { id, model, resolve, reject });
    reconcile();
    return {
      place,
      leave(reason) {
        const waiter = waiters.get(id);
        if (!waiter) return;
        waiters.delete(id);
        waiter.reject(reason);
        reconcile();
      },
    };
  }

  function unavailable(failure: DrawbridgeError): DrawbridgeError {
    const reason = failure.reason === "INVALID_ARGUMENT" ? "AGENT_CRASHED" : failure.reason;
    const retryAfterMs = Math.max(0, backoffUntilMs - clock.monotonic());
    return new DrawbridgeError(reason, failure.message, { cause: failure, retryAfterMs });
  }

  function status(): PoolStatus {
    const { health, reason } = poolHealth(facts());
    const admitted = waiters.size + inPhase("busy").length;
    const open = health === Health.HEALTHY || health === Health.DEGRADED;
    return create(PoolStatusSchema, {
      accountId: account.id,
      generation: options.generation,
      models: Object.keys(account.models),
      slots: account.slots,
      availableSlots: open ? Math.max(0, account.slots - admitted) : 0,
      queueLimit: account.queue,
      queueDepth: Math.max(0, admitted - account.slots),
      health,
      healthReason: reason.slice(0, 1024),
      processes: members.size,
    });
  }

  return {
    account,
    start() {
      running = true;
      reconcile();
    },
    enter,
    status,
    drain() {
      draining = true;
      reconcile();
    },
    async stop() {
      draining = true;
      running = false;
      timer?.[Symbol.dispose]();
      const stopped = new DrawbridgeError("DRAINING", "The worker stopped.");
      for (const waiter of waiters.values()) waiter.reject(stopped);
      waiters.clear();
      for (const member of members.values()) if (member.phase !== "stopping") retire(member);
      // Those that are still on their way.
      stopping.abort(stopped);
      while (pending.size > 0) await Promise.all(pending);
    },
  };
}
