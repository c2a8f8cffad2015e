// What the scheduler knows of the fleet: accounts from the store, workers from the registry's watch, both corrected by its own calls, so that a burst
// between two heartbeats spreads out. The view only ranks; the store decides. Every change moves the candidates that it is about, and no other.
import { type Account, type Breaker, BreakerState } from "#gen/drawbridge/v1/account";
import { Health, type PoolStatus, type Worker } from "#gen/drawbridge/v1/worker";
import type { Clock } from "../../kit/clock.ts";
import type { AccountState, Candidate } from "./candidate.ts";
import { createHolders, type Holders } from "./holders.ts";
import type { ModelIndex } from "./model-index.ts";
import { type Entry, Pools, type PoolsOptions } from "./pools.ts";

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

/** A worker's word may be as old as this when it comes, in ms: until then our own leases there count, though it does not name them. */
const wordAgeMs = 2_000;
/** Conversations whose holders are remembered. */
const conversationsMax = 20_000;

export function createView(options: PoolsOptions): View {
  const { clock } = options;
  const pools = new Pools(options);
  const holders = createHolders(conversationsMax);
  return {
    ...accountsOf(pools, clock),
    ...workersOf(pools, holders, clock),
    ...loadsOf(pools, holders, clock),
    model: (name) => pools.indexes.get(name),
    holder(conversation, model) {
      const candidate = holders.find(conversation);
      const index = pools.indexes.get(model);
      const leaf = candidate && index ? pools.leafOf(candidate, index) : undefined;
      return index && leaf !== undefined && index.isPrompt(leaf) ? candidate : undefined;
    },
    holds: (conversation, candidate) => holders.find(conversation) === candidate,
    account(id) {
      const entry = pools.entries.get(id);
      return entry?.known ? entry.state : undefined;
    },
    models: () => modelsOf(pools),
    onRoom: (listener) => void (pools.onRoom = listener),
    [Symbol.dispose]: () => pools[Symbol.dispose](),
  };
}

/** What the store says. */
function accountsOf(pools: Pools, clock: Clock): Pick<View, "setAccounts" | "setBreaker" | "setCredits"> {
  const set = (account: Account, breaker: Breaker | undefined) => {
    const { spec } = account;
    if (!spec) return;
    const entry = pools.entryOf(spec.id);
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
    if (fresh) pools.declare(entry, Object.keys(spec.models));
    pools.move(entry);
  };
  return {
    setAccounts(accounts, breakers) {
      const breakerOf = new Map(breakers.map((breaker) => [breaker.accountId, breaker]));
      const present = new Set(accounts.map(({ spec }) => spec?.id ?? ""));
      for (const account of accounts) set(account, breakerOf.get(account.spec?.id ?? ""));
      for (const entry of pools.entries.values()) {
        if (entry.known && !present.has(entry.state.id)) pools.withdraw(entry);
      }
      for (const index of pools.indexes.values()) {
        for (const id of index.speeds.expire(clock.now())) pools.move(pools.entryOf(id));
      }
    },
    setBreaker(breaker) {
      const entry = pools.entries.get(breaker.accountId);
      if (!entry || (entry.state.breaker && entry.state.breaker.revision > breaker.revision)) return;
      entry.state.breaker = breaker;
      pools.move(entry);
    },
    setCredits(accountId, available) {
      const entry = pools.entries.get(accountId);
      if (!entry || entry.state.millicredits === available) return;
      entry.state.millicredits = available;
      for (const { candidate } of entry.pools.values()) pools.moveOne(candidate);
    },
  };
}

/** What workers say. */
function workersOf(
  pools: Pools,
  holders: Holders,
  clock: Clock,
): Pick<View, "setWorkers" | "putWorker" | "removeWorker" | "markDown"> {
  const workers = new Map<string, Worker>();
  const entriesOf = (worker: Worker | undefined): Entry[] =>
    (worker?.pools ?? []).flatMap(({ accountId }) => pools.entries.get(accountId) ?? []);

  const put = (worker: Worker) => {
    const before = workers.get(worker.id);
    // Words may overtake each other on their way.
    if (before?.incarnation === worker.incarnation && worker.revision < before.revision) return;
    workers.set(worker.id, worker);
    const served = new Set(worker.pools.map(({ accountId }) => accountId));
    for (const entry of entriesOf(before)) if (!served.has(entry.state.id)) pools.remove(entry, worker.id);
    for (const status of worker.pools) {
      const entry = pools.entryOf(status.accountId);
      const pool = pools.poolOf(entry, worker);
      hear(pool.candidate, worker, status, clock.now());
      holders.listed(pool.candidate, status.conversations);
      pool.models = status.models;
      pools.place(entry, pool);
      pools.move(entry);
    }
  };
  const remove = (workerId: string) => {
    for (const entry of entriesOf(workers.get(workerId))) pools.remove(entry, workerId);
    workers.delete(workerId);
  };
  return {
    setWorkers(list) {
      const present = new Set(list.map(({ id }) => id));
      for (const id of workers.keys()) if (!present.has(id)) remove(id);
      for (const worker of list) put(worker);
    },
    putWorker: put,
    removeWorker: remove,
    markDown(workerId, until) {
      for (const entry of entriesOf(workers.get(workerId))) {
        const pool = entry.pools.get(workerId);
        if (pool) pool.candidate.downUntil = until;
        pools.move(entry);
      }
    },
  };
}

/** What our own calls say. */
function loadsOf(
  pools: Pools,
  holders: Holders,
  clock: Clock,
): Pick<View, "beginClaim" | "endClaim" | "pause" | "endLease" | "tellSpeed" | "tellConversation"> {
  return {
    beginClaim(candidate) {
      candidate.pending += 1;
      pools.moveOne(candidate);
    },
    endClaim(candidate, attemptId, open) {
      candidate.pending -= 1;
      if (open !== undefined) {
        candidate.own.set(attemptId, clock.now());
        candidate.known = open;
      }
      pools.moveOne(candidate);
    },
    pause(candidate, until) {
      candidate.pausedUntil = until;
      const entry = pools.entries.get(candidate.account.id);
      if (entry) pools.move(entry);
    },
    endLease(candidate, attemptId) {
      candidate.own.delete(attemptId);
      candidate.known = Math.max(0, candidate.known - 1);
      pools.moveOne(candidate);
    },
    tellSpeed(model, accountId, firstContentMs) {
      const entry = pools.entries.get(accountId);
      const speeds = pools.indexes.get(model)?.speeds;
      if (!entry || !speeds) return;
      const before = speeds.of(accountId).weight;
      speeds.told(accountId, firstContentMs, clock.now());
      if (speeds.of(accountId).weight !== before) pools.move(entry);
    },
    tellConversation: (conversation, candidate) => holders.told(conversation, candidate),
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

function modelsOf({ entries, indexes }: Pools): ModelView[] {
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
