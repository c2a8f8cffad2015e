// What the scheduler knows of the fleet: accounts from the store, workers from the registry's watch, both corrected by its own calls in
// flight, so that a burst between two heartbeats spreads out. The view only ranks; the store decides.
import { BreakerState, type Account, type Breaker } from "#gen/drawbridge/v1/account";
import { Health, type PoolStatus, type Worker } from "#gen/drawbridge/v1/worker";
import type { AccountState, Candidate } from "./pick.ts";

export interface View {
  /** Accounts of the store, in any order; what it has instead is replaced. */
  setAccounts(accounts: readonly Account[], breakers: readonly Breaker[]): void;
  setBreaker(breaker: Breaker): void;
  setCredits(accountId: string, available: number): void;
  setWorkers(workers: readonly Worker[]): void;
  putWorker(worker: Worker): void;
  removeWorker(workerId: string): void;
  /** The worker takes nothing until then, unless it shows itself. */
  markDown(workerId: string, until: number): void;
  /** A lease of ours began (+1) or ended (-1) since the worker's last word. */
  addLoad(accountId: string, workerId: string, change: 1 | -1): void;
  /** Pools of live workers that serve the model. */
  candidates(model: string): readonly Candidate[];
  account(id: string): AccountState | undefined;
  /** Every model that accounts declare. */
  models(): readonly ModelView[];
  /** The accounts that declare the model. */
  accountsOf(model: string): readonly AccountState[];
}

export interface ModelView {
  readonly name: string;
  readonly accounts: number;
  readonly ready: boolean;
  /** When the first account that declares it was created, in ms since 1970. */
  readonly createdAt: number;
}

interface Entry {
  readonly state: AccountState;
  readonly models: readonly string[];
  readonly createdAt: number;
}

export function createView(): View {
  const accounts = new Map<string, Entry>();
  const workers = new Map<string, Worker>();
  /** Model → its candidates; rebuilt when the fleet changes, read by every pick. */
  let index = new Map<string, Candidate[]>();
  /** Account and worker → their candidate, which the index's lists share. */
  let pools = new Map<string, Candidate>();
  const downUntil = new Map<string, number>();

  const rebuild = () => {
    const previous = pools;
    index = new Map();
    pools = new Map();
    for (const worker of workers.values()) {
      for (const pool of worker.pools) {
        const entry = accounts.get(pool.accountId);
        if (!entry) continue;
        const key = poolKey(pool.accountId, worker.id);
        const candidate = candidateOf(entry.state, worker, pool, previous.get(key), downUntil.get(worker.id) ?? 0);
        pools.set(key, candidate);
        for (const model of pool.models) {
          if (!entry.models.includes(model)) continue;
          const list = index.get(model);
          if (list) list.push(candidate);
          else index.set(model, [candidate]);
        }
      }
    }
  };

  return {
    setAccounts(list, breakers) {
      const breakerOf = new Map(breakers.map((breaker) => [breaker.accountId, breaker]));
      accounts.clear();
      for (const account of list) {
        const entry = entryOf(account, breakerOf);
        if (entry) accounts.set(entry.state.id, entry);
      }
      rebuild();
    },
    setBreaker(breaker) {
      const entry = accounts.get(breaker.accountId);
      if (entry) entry.state.breaker = breaker;
    },
    setCredits(accountId, available) {
      const entry = accounts.get(accountId);
      if (entry) entry.state.millicredits = available;
    },
    setWorkers(list) {
      workers.clear();
      for (const worker of list) workers.set(worker.id, worker);
      rebuild();
    },
    putWorker(worker) {
      workers.set(worker.id, worker);
      downUntil.delete(worker.id);
      rebuild();
    },
    removeWorker(workerId) {
      workers.delete(workerId);
      downUntil.delete(workerId);
      rebuild();
    },
    markDown(workerId, until) {
      if (!workers.has(workerId)) return;
      downUntil.set(workerId, until);
      for (const candidate of pools.values()) if (candidate.workerId === workerId) candidate.downUntil = until;
    },
    addLoad(accountId, workerId, change) {
      const candidate = pools.get(poolKey(accountId, workerId));
      if (candidate) candidate.load = Math.max(0, candidate.load + change);
    },
    candidates: (model) => index.get(model) ?? [],
    account: (id) => accounts.get(id)?.state,
    models: () => modelsOf(accounts, index),
    accountsOf: (model) =>
      [...accounts.values()].filter((entry) => entry.models.includes(model)).map((entry) => entry.state),
  };
}

function poolKey(accountId: string, workerId: string): string {
  return `${workerId}\n${accountId}`;
}

function entryOf(account: Account, breakers: ReadonlyMap<string, Breaker>): Entry | undefined {
  const { spec } = account;
  if (!spec) return undefined;
  return {
    state: {
      id: spec.id,
      millicredits: Number(account.credits?.available ?? 0n),
      cost: Number(spec.millicreditsPerRequest),
      drained: spec.drained,
      breaker: breakers.get(spec.id),
    },
    models: Object.keys(spec.models),
    createdAt: Number(account.createdAt?.seconds ?? 0n) * 1_000,
  };
}

/** A pool that has said nothing new keeps its corrected load; its own word replaces it. */
function candidateOf(
  account: AccountState,
  worker: Worker,
  pool: PoolStatus,
  previous: Candidate | undefined,
  downUntil: number,
): Candidate {
  const unchanged = previous?.reported === worker.revision && previous.workerIncarnation === worker.incarnation;
  return {
    account,
    workerId: worker.id,
    workerIncarnation: worker.incarnation,
    workerAddress: worker.address,
    reported: worker.revision,
    health: pool.health,
    slots: pool.slots,
    queueLimit: pool.queueLimit,
    load: unchanged ? previous.load : pool.slots - pool.availableSlots + pool.queueDepth,
    downUntil,
  };
}

function modelsOf(accounts: ReadonlyMap<string, Entry>, index: ReadonlyMap<string, Candidate[]>): ModelView[] {
  const models = new Map<string, { accounts: number; createdAt: number }>();
  for (const { models: names, createdAt } of accounts.values()) {
    for (const name of names) {
      const known = models.get(name);
      models.set(name, {
        accounts: (known?.accounts ?? 0) + 1,
        createdAt: Math.min(known?.createdAt ?? createdAt, createdAt),
      });
    }
  }
  return [...models]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, model]) => ({ name, ...model, ready: (index.get(name) ?? []).some(isReady) }));
}

/** Whether the pool can serve, now or as soon as a slot is free. */
function isReady({ account, health, slots }: Candidate): boolean {
  const stopped = account.breaker?.state === BreakerState.OPEN && account.breaker.until === undefined;
  return !account.drained && !stopped && slots > 0 && (health === Health.HEALTHY || health === Health.DEGRADED);
}
