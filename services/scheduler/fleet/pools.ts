// The accounts and their pools, each in the index of every model that it serves. Whatever changes one of them ends in `move`, which brings its candidates to
// where they belong; what ends by itself after a time is looked at again then.
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { Health, type Worker } from "#gen/drawbridge/v1/worker";
import type { Clock } from "../../kit/clock.ts";
import type { Random } from "../../kit/random.ts";
import type { SchedulerSettings } from "../config.ts";
import type { AccountState, Candidate } from "./candidate.ts";
import { ModelIndex } from "./model-index.ts";

/** A pool, and its leaf in the index of each model that it serves. */
export interface Pool {
  readonly candidate: Candidate;
  models: readonly string[];
  readonly leaves: Map<ModelIndex, number>;
}

/** An account with its pools, by worker. */
export interface Entry {
  readonly state: AccountState;
  /** False: only workers speak of it. */
  known: boolean;
  models: readonly string[];
  createdAt: number;
  readonly pools: Map<string, Pool>;
  /** When something that keeps it out ends. */
  wake: Disposable | undefined;
}

export interface PoolsOptions {
  readonly settings: SchedulerSettings;
  readonly clock: Clock;
  readonly random: Random;
}

/** Longer waits are looked at again in between: a timer takes no more than 24 days. */
const wakeMaxMs = 86_400_000;

export class Pools implements Disposable {
  readonly entries = new Map<string, Entry>();
  readonly indexes = new Map<string, ModelIndex>();
  /** Told the model's name when a candidate can be taken that could not before. */
  onRoom: (model: string) => void = () => {};
  readonly #options: PoolsOptions;
  readonly #poolOf = new Map<Candidate, Pool>();

  constructor(options: PoolsOptions) {
    this.#options = options;
  }

  /** The account's entry, made where there is none. */
  entryOf(id: string): Entry {
    let entry = this.entries.get(id);
    if (!entry) {
      const state = { id, revision: 0, millicredits: 0, cost: 0, drained: false, breaker: undefined };
      entry = { state, known: false, models: [], createdAt: 0, pools: new Map(), wake: undefined };
      this.entries.set(id, entry);
    }
    return entry;
  }

  /** The account's pool on a worker, made where there is none. */
  poolOf(entry: Entry, worker: Worker): Pool {
    let pool = entry.pools.get(worker.id);
    if (!pool) {
      pool = { candidate: newCandidate(entry.state, worker), models: [], leaves: new Map() };
      entry.pools.set(worker.id, pool);
      this.#poolOf.set(pool.candidate, pool);
    }
    return pool;
  }

  remove(entry: Entry, workerId: string): void {
    const pool = entry.pools.get(workerId);
    if (!pool) return;
    const now = this.#options.clock.now();
    for (const [index, leaf] of pool.leaves) index.remove(leaf, now);
    entry.pools.delete(workerId);
    this.#poolOf.delete(pool.candidate);
    this.#forget(entry);
  }

  /** The account declares these models, and no others. */
  declare(entry: Entry, models: readonly string[]): void {
    const withdrawn = entry.models.filter((model) => !models.includes(model));
    for (const model of models) this.#indexOf(model).declare(entry.state);
    entry.models = models;
    for (const pool of entry.pools.values()) this.place(entry, pool);
    for (const model of withdrawn) {
      const index = this.indexes.get(model);
      index?.withdraw(entry.state.id);
      if (index?.members.size === 0) this.indexes.delete(model);
    }
  }

  /** The store has no such account any more. */
  withdraw(entry: Entry): void {
    entry.known = false;
    this.declare(entry, []);
    entry.wake?.[Symbol.dispose]();
    this.#forget(entry);
  }

  /** Puts the pool into the indexes of the models that it serves and its account declares, and nowhere else. */
  place(entry: Entry, pool: Pool): void {
    const now = this.#options.clock.now();
    const wanted = new Set(entry.known ? pool.models.filter((model) => entry.models.includes(model)) : []);
    for (const [index, leaf] of pool.leaves) {
      if (wanted.delete(index.name)) continue;
      index.remove(leaf, now);
      pool.leaves.delete(index);
    }
    for (const model of wanted) {
      const index = this.#indexOf(model);
      pool.leaves.set(index, index.add(pool.candidate, now));
      if (index.room) this.onRoom(model);
    }
    this.#movePool(pool, now);
  }

  /** Something of the account changed. */
  move(entry: Entry): void {
    const now = this.#options.clock.now();
    for (const pool of entry.pools.values()) this.#movePool(pool, now);
    this.#arm(entry, now);
  }

  /** The candidate's load changed, and nothing else. */
  moveOne(candidate: Candidate): void {
    const pool = this.#poolOf.get(candidate);
    if (pool) this.#movePool(pool, this.#options.clock.now());
  }

  /** The candidate's leaf in the index. */
  leafOf(candidate: Candidate, index: ModelIndex): number | undefined {
    return this.#poolOf.get(candidate)?.leaves.get(index);
  }

  [Symbol.dispose](): void {
    for (const entry of this.entries.values()) entry.wake?.[Symbol.dispose]();
  }

  #indexOf(model: string): ModelIndex {
    let index = this.indexes.get(model);
    if (!index) {
      index = new ModelIndex(model, this.#options.settings, this.#options.random);
      this.indexes.set(model, index);
    }
    return index;
  }

  #movePool({ leaves }: Pool, now: number): void {
    for (const [index, leaf] of leaves) if (index.update(leaf, now)) this.onRoom(index.name);
  }

  /** Looks at the account again when the first thing ends that keeps it, or a pool of it, out. */
  #arm(entry: Entry, now: number): void {
    entry.wake?.[Symbol.dispose]();
    const { breaker } = entry.state;
    const ends = [breaker?.until ? timestampMs(breaker.until) : 0];
    for (const { candidate } of entry.pools.values()) ends.push(candidate.downUntil, candidate.pausedUntil);
    const at = Math.min(...ends.filter((end) => end > now));
    const wait = Math.min(wakeMaxMs, at - now);
    entry.wake = at === Infinity ? undefined : this.#options.clock.after(wait, () => this.move(entry));
  }

  #forget(entry: Entry): void {
    if (entry.known || entry.pools.size > 0) return;
    entry.wake?.[Symbol.dispose]();
    this.entries.delete(entry.state.id);
  }
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
