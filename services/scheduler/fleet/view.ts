// What the scheduler knows of the fleet: accounts from the store, workers from the registry's watch, both corrected by its own calls, so that a burst
// between two heartbeats spreads out. The view only ranks; the store decides. Every change moves the candidates that it is about, and no other.
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type Account, type Breaker, BreakerState } from "#gen/drawbridge/v1/account";
import { Health, type PoolStatus, type Worker } from "#gen/drawbridge/v1/worker";
import type { Clock } from "../../kit/clock.ts";
import type { Random } from "../../kit/random.ts";
import type { SchedulerSettings } from "../config.ts";
import type { AccountState, Candidate } from "./candidate.ts";
import { createHolders } from "./holders.ts";
import { ModelIndex } from "./model-index.ts";

export interface View extends Disposable {
  /** Accounts of the store, in any order; what it has instead is replaced. */
  setAccounts(accounts: readonly Account[], breakers: readonly Breaker[]): void;
  setBreaker(breaker: Breaker): void;
  setCredits(accountId: string, available: number): void;
  setWorkers(workers: readonly Worker[]): void;
  putWorker(worker: Worker): void;
  removeWorker(workerId: string): void;
  /** The worker takes nothing until then, unless it shows itself. */
  markDown(workerId: string, until: number): void;

  /** A claim of ours begins: it counts before the store has answered, so that calls of the same moment do not all choose this one. */
  beginClaim(candidate: Candidate): void;
  /** The store has answered. `open`: leases that it counts there, ours included; undefined: it refused. */
  endClaim(candidate: Candidate, attemptId: string, open: number | undefined): void;
  /** Nothing is tried there before this time. */
  pause(candidate: Candidate, until: number): void;
  /** A lease of ours there is over. */
  endLease(candidate: Candidate, attemptId: string): void;
  /** How long a call took to its first content. */
  tellSpeed(model: string, accountId: string, firstContentMs: number): void;
  tellConversation(conversation: string, candidate: Candidate): void;

  /** The index of a model that accounts declare. */
  model(name: string): ModelIndex | undefined;
  /** The pool that holds the conversation, if it can take a prompt for the model at once. */
  holder(conversation: string, model: string): Candidate | undefined;
  /** Whether the pool holds the conversation, as far as is known. */
  holds(conversation: string, candidate: Candidate): boolean;
  account(id: string): AccountState | undefined;
  /** Every model that accounts declare, by name. */
  models(): readonly ModelView[];
  /** Told the model's name when a candidate can be taken that could not before. */
  onRoom(listener: (model: string) => void): void;
}

export interface ModelView {
  readonly name: string;
  readonly accounts: number;
  readonly ready: boolean;
  /** When the first account that declares it was created, in ms since 1970. */
  readonly createdAt: number;
}

export interface ViewOptions {
  readonly settings: SchedulerSettings;
  readonly clock: Clock;
  readonly random: Random;
}

/** A pool, and its leaf in the index of each model that it serves. */
interface Pool {
  readonly candidate: Candidate;
  models: readonly string[];
  readonly leaves: Map<ModelIndex, number>;
}

interface Entry {
  readonly state: AccountState;
  /** False: only workers speak of it. */
  known: boolean;
  models: readonly string[];
  createdAt: number;
  readonly pools: Map<string, Pool>;
  /** When something that keeps it out ends. */
  wake: Disposable | undefined;
}

/** A worker's word may be as old as this when it comes, in ms: until then our own leases there count, though it does not name them. */
const wordAgeMs = 2_000;
/** Longer waits are looked at again in between: a timer takes no more than 24 days. */
const wakeMaxMs = 86_400_000;
/** Conversations whose holders are remembered. */
const conversationsMax = 20_000;

export function createView({ settings, clock, random }: ViewOptions): View {
  const entries = new Map<string, Entry>();
  const indexes = new Map<string, ModelIndex>();
  const workers = new Map<string, Worker>();
  const poolOf = new Map<Candidate, Pool>();
  const holders = createHolders(conversationsMax);
  let tellRoom: (model: string) => void = () => {};

  const entryOf = (id: string): Entry => {
    let entry = entries.get(id);
    if (!entry) {
      const state = { id, revision: 0, millicredits: 0, cost: 0, drained: false, breaker: undefined };
      entry = { state, known: false, models: [], createdAt: 0, pools: new Map(), wake: undefined };
      entries.set(id, entry);
    }
    return entry;
  };
  const indexOf = (model: string): ModelIndex => {
    let index = indexes.get(model);
    if (!index) {
      index = new ModelIndex(model, settings, random);
      indexes.set(model, index);
    }
    return index;
  };

  /** Moves a pool to where it belongs now, in each model. */
  const move = ({ leaves }: Pool, now: number) => {
    for (const [index, leaf] of leaves) if (index.update(leaf, now)) tellRoom(index.name);
  };
  const moveAll = (entry: Entry) => {
    const now = clock.now();
    for (const pool of entry.pools.values()) move(pool, now);
    arm(entry, now);
  };
  const changed = (candidate: Candidate) => {
    const pool = poolOf.get(candidate);
    if (pool) move(pool, clock.now());
  };

  /** Looks at the account again when the first thing ends that keeps it, or a pool of it, out. */
  const arm = (entry: Entry, now: number) => {
    entry.wake?.[Symbol.dispose]();
    let at = entry.state.breaker?.until ? timestampMs(entry.state.breaker.until) : Infinity;
    if (at <= now) at = Infinity;
    for (const { candidate } of entry.pools.values()) {
      if (candidate.downUntil > now) at = Math.min(at, candidate.downUntil);
      if (candidate.pausedUntil > now) at = Math.min(at, candidate.pausedUntil);
    }
    entry.wake = at === Infinity ? undefined : clock.after(Math.min(wakeMaxMs, at - now), () => moveAll(entry));
  };

  /** Puts the pool into the indexes of the models that it serves and its account declares, and nowhere else. */
  const place = (entry: Entry, pool: Pool) => {
    const now = clock.now();
    const wanted = new Set(entry.known ? pool.models.filter((model) => entry.models.includes(model)) : []);
    for (const [index, leaf] of pool.leaves) {
      if (wanted.delete(index.name)) continue;
      index.remove(leaf, now);
      pool.leaves.delete(index);
    }
    for (const model of wanted) {
      const index = indexOf(model);
      pool.leaves.set(index, index.add(pool.candidate, now));
      if (index.room) tellRoom(model);
    }
    move(pool, now);
  };
  const removePool = (entry: Entry, workerId: string) => {
    const pool = entry.pools.get(workerId);
    if (!pool) return;
    const now = clock.now();
    for (const [index, leaf] of pool.leaves) index.remove(leaf, now);
    entry.pools.delete(workerId);
    poolOf.delete(pool.candidate);
    if (!entry.known && entry.pools.size === 0) entries.delete(entry.state.id);
  };
  const declare = (entry: Entry, models: readonly string[]) => {
    const withdrawn = entry.models.filter((model) => !models.includes(model));
    for (const model of models) indexOf(model).declare(entry.state);
    entry.models = models;
    for (const pool of entry.pools.values()) place(entry, pool);
    for (const model of withdrawn) {
      const index = indexes.get(model);
      index?.withdraw(entry.state.id);
      if (index?.members.size === 0) indexes.delete(model);
    }
  };

  const putPool = (worker: Worker, status: PoolStatus) => {
    const entry = entryOf(status.accountId);
    let pool = entry.pools.get(worker.id);
    if (!pool) {
      pool = { candidate: newCandidate(entry.state, worker), models: [], leaves: new Map() };
      entry.pools.set(worker.id, pool);
      poolOf.set(pool.candidate, pool);
    }
    hear(pool.candidate, worker, status, clock.now());
    holders.listed(pool.candidate, status.conversations);
    pool.models = status.models;
    place(entry, pool);
    arm(entry, clock.now());
  };
  const putWorker = (worker: Worker) => {
    const before = workers.get(worker.id);
    // Words may overtake each other on their way.
    if (before?.incarnation === worker.incarnation && worker.revision < before.revision) return;
    workers.set(worker.id, worker);
    const served = new Set(worker.pools.map(({ accountId }) => accountId));
    for (const { accountId } of before?.pools ?? []) {
      const entry = entries.get(accountId);
      if (entry && !served.has(accountId)) removePool(entry, worker.id);
    }
    for (const status of worker.pools) putPool(worker, status);
  };
  const removeWorker = (workerId: string) => {
    for (const { accountId } of workers.get(workerId)?.pools ?? []) {
      const entry = entries.get(accountId);
      if (entry) removePool(entry, workerId);
    }
    workers.delete(workerId);
  };

  const setAccount = (account: Account, breaker: Breaker | undefined) => {
    const { spec } = account;
    if (!spec) return;
    const entry = entryOf(spec.id);
    const { state } = entry;
    const fresh = !entry.known || state.revision !== Number(account.revision);
    const millicredits = Number(account.credits?.available ?? 0n);
    if (!fresh && state.millicredits === millicredits && state.breaker?.revision === breaker?.revision) return;
    state.revision = Number(account.revision);
    state.millicredits = millicredits;
    state.cost = Number(spec.millicreditsPerRequest);
    state.drained = spec.drained;
    state.breaker = breaker;
    entry.known = true;
    entry.createdAt = Number(account.createdAt?.seconds ?? 0n) * 1_000;
    if (fresh) declare(entry, Object.keys(spec.models));
    moveAll(entry);
  };
  const removeAccount = (entry: Entry) => {
    entry.known = false;
    declare(entry, []);
    entry.wake?.[Symbol.dispose]();
    if (entry.pools.size === 0) entries.delete(entry.state.id);
  };
  const poolsOfWorker = (workerId: string): Pool[] =>
    (workers.get(workerId)?.pools ?? []).flatMap(({ accountId }) => entries.get(accountId)?.pools.get(workerId) ?? []);

  return {
    setAccounts(list, breakers) {
      const breakerOf = new Map(breakers.map((breaker) => [breaker.accountId, breaker]));
      const present = new Set<string>();
      for (const account of list) {
        const id = account.spec?.id ?? "";
        present.add(id);
        setAccount(account, breakerOf.get(id));
      }
      for (const entry of entries.values()) if (entry.known && !present.has(entry.state.id)) removeAccount(entry);
      for (const index of indexes.values()) {
        for (const id of index.speeds.expire(clock.now())) moveAll(entryOf(id));
      }
    },
    setBreaker(breaker) {
      const entry = entries.get(breaker.accountId);
      if (!entry || (entry.state.breaker && entry.state.breaker.revision > breaker.revision)) return;
      entry.state.breaker = breaker;
      moveAll(entry);
    },
    setCredits(accountId, available) {
      const entry = entries.get(accountId);
      if (!entry || entry.state.millicredits === available) return;
      entry.state.millicredits = available;
      const now = clock.now();
      for (const pool of entry.pools.values()) move(pool, now);
    },
    setWorkers(list) {
      const present = new Set(list.map(({ id }) => id));
      for (const id of workers.keys()) if (!present.has(id)) removeWorker(id);
      for (const worker of list) putWorker(worker);
    },
    putWorker,
    removeWorker,
    markDown(workerId, until) {
      for (const { candidate } of poolsOfWorker(workerId)) {
        candidate.downUntil = until;
        moveAll(entryOf(candidate.account.id));
      }
    },

    beginClaim(candidate) {
      candidate.pending += 1;
      changed(candidate);
    },
    endClaim(candidate, attemptId, open) {
      candidate.pending -= 1;
      if (open !== undefined) {
        candidate.own.set(attemptId, clock.now());
        candidate.known = open;
      }
      changed(candidate);
    },
    pause(candidate, until) {
      candidate.pausedUntil = until;
      const entry = entries.get(candidate.account.id);
      if (entry) moveAll(entry);
    },
    endLease(candidate, attemptId) {
      candidate.own.delete(attemptId);
      candidate.known = Math.max(0, candidate.known - 1);
      changed(candidate);
    },
    tellSpeed(model, accountId, firstContentMs) {
      const entry = entries.get(accountId);
      const speeds = indexes.get(model)?.speeds;
      if (!entry || !speeds) return;
      const before = speeds.of(accountId).weight;
      speeds.told(accountId, firstContentMs, clock.now());
      if (speeds.of(accountId).weight !== before) moveAll(entry);
    },
    tellConversation: (conversation, candidate) => holders.told(conversation, candidate),

    model: (name) => indexes.get(name),
    holder(conversation, model) {
      const candidate = holders.find(conversation);
      const index = indexes.get(model);
      const leaf = candidate && index ? poolOf.get(candidate)?.leaves.get(index) : undefined;
      return index && leaf !== undefined && index.isPrompt(leaf) ? candidate : undefined;
    },
    holds: (conversation, candidate) => holders.find(conversation) === candidate,
    account(id) {
      const entry = entries.get(id);
      return entry?.known ? entry.state : undefined;
    },
    models: () => modelsOf(entries, indexes),
    onRoom: (listener) => void (tellRoom = listener),
    [Symbol.dispose]() {
      for (const entry of entries.values()) entry.wake?.[Symbol.dispose]();
    },
  };
}

function newCandidate(account: AccountState, worker: Worker): Candidate {
  return {
    account,
    workerId: worker.id,
    workerIncarnation: worker.incarnation,
    workerAddress: worker.address,
    reported: -1n,
    health: Health.UNSPECIFIED,
    slots: 0,
    queueLimit: 0,
    known: 0,
    own: new Map(),
    pending: 0,
    downUntil: 0,
    pausedUntil: 0,
    conversations: [],
  };
}

/** The worker's word replaces what was known of its pool, but for leases of ours that it may not have seen when it spoke. */
function hear(candidate: Candidate, worker: Worker, status: PoolStatus, now: number): void {
  if (candidate.reported === worker.revision && candidate.workerIncarnation === worker.incarnation) return;
  if (candidate.workerIncarnation !== worker.incarnation) candidate.own.clear();
  candidate.workerIncarnation = worker.incarnation;
  candidate.workerAddress = worker.address;
  candidate.reported = worker.revision;
  candidate.health = status.health;
  candidate.slots = status.slots;
  candidate.queueLimit = status.queueLimit;
  candidate.known = status.slots - status.availableSlots + status.queueDepth;
  // Older ones are in its word if they run. A lease whose end was told to another scheduler, or to nobody, must not count for ever.
  for (const [attemptId, takenAt] of candidate.own) if (takenAt + wordAgeMs < now) candidate.own.delete(attemptId);
  candidate.downUntil = 0;
}

function modelsOf(entries: ReadonlyMap<string, Entry>, indexes: ReadonlyMap<string, ModelIndex>): ModelView[] {
  const createdAt = new Map<string, number>();
  for (const entry of entries.values()) {
    for (const model of entry.models) {
      createdAt.set(model, Math.min(createdAt.get(model) ?? Infinity, entry.createdAt));
    }
  }
  return [...indexes.values()]
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map((index) => ({
      name: index.name,
      accounts: index.members.size,
      ready: index.candidates.some(isReady),
      createdAt: createdAt.get(index.name) ?? 0,
    }));
}

/** Whether the pool can serve, now or as soon as a slot is free. */
function isReady({ account, health, slots }: Candidate): boolean {
  const stopped = account.breaker?.state === BreakerState.OPEN && account.breaker.until === undefined;
  return !account.drained && !stopped && slots > 0 && (health === Health.HEALTHY || health === Health.DEGRADED);
}
