// The candidates of one model in the order of their keys, kept as they change, so that a pick depends on no number of accounts.
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import type { Random } from "../../kit/random.ts";
import {
  type AccountState,
  type Candidate,
  type Conditions,
  openByFailures,
  orderKey,
  policies,
  rejection,
  type Speed,
  untakeable,
} from "./candidate.ts";
import type { SchedulerSettings } from "../config.ts";
import { createSpeeds, type Speeds } from "./speed.ts";
import { Tournament } from "./tournament.ts";

/** An account that declares the model, with the leaves of its pools. */
interface Member {
  readonly account: AccountState;
  readonly leaves: Set<number>;
}

export interface Ranked {
  readonly candidate: Candidate;
  readonly score: number;
  readonly speed: Speed;
  /** Larger is earlier. */
  readonly key: number;
  readonly rejected: ErrorReason;
}

export class ModelIndex {
  readonly name: string;
  readonly members = new Map<string, Member>();
  readonly speeds: Speeds;
  readonly #settings: SchedulerSettings;
  readonly #tree: Tournament;
  readonly #candidates: Candidate[] = [];
  /** Why each leaf cannot be taken, and how many there are of each reason. */
  readonly #reasons: ErrorReason[] = [];
  readonly #reasonCounts = new Uint32Array(64);
  /** Members with a pool, and those of them that failures keep out. */
  #serving = 0;
  readonly #open = new Set<Member>();
  #panics = false;
  /** Filled in for each question, so that none is allocated. */
  readonly #conditions: { -readonly [Field in keyof Conditions]: Conditions[Field] };

  constructor(name: string, settings: SchedulerSettings, random: Random) {
    this.name = name;
    this.#settings = settings;
    this.#tree = new Tournament(random());
    this.speeds = createSpeeds(settings);
    this.#conditions = { now: 0, backlogMax: settings.queue.worker_backlog, openPasses: false };
  }

  declare(account: AccountState): void {
    if (!this.members.has(account.id)) this.members.set(account.id, { account, leaves: new Set() });
  }

  /** The account no longer declares the model; its pools were removed before. */
  withdraw(accountId: string): void {
    this.members.delete(accountId);
    this.speeds.forget(accountId);
  }

  /** Adds a pool of an account that declares the model; its leaf. */
  add(candidate: Candidate, now: number): number {
    const member = this.members.get(candidate.account.id);
    if (!member) throw new Error(`${candidate.account.id} does not declare ${this.name}`);
    const leaf = this.#tree.add();
    this.#candidates[leaf] = candidate;
    this.#reasons[leaf] = ErrorReason.UNSPECIFIED;
    this.#count(ErrorReason.UNSPECIFIED, 1);
    if (member.leaves.size === 0) this.#serving += 1;
    member.leaves.add(leaf);
    this.#guard(now);
    this.update(leaf, now);
    return leaf;
  }

  remove(leaf: number, now: number): void {
    const member = this.#memberOf(leaf);
    this.#tree.remove(leaf);
    this.#count(this.#reasons[leaf] ?? ErrorReason.UNSPECIFIED, -1);
    member?.leaves.delete(leaf);
    if (!member || member.leaves.size > 0) return;
    this.#serving -= 1;
    this.#open.delete(member);
    this.#guard(now);
  }

  /** Brings a leaf to where its candidate belongs now. True: it can be taken and could not before, or has a place more. */
  update(leaf: number, now: number): boolean {
    const candidate = this.#candidates[leaf] as Candidate;
    const before = this.#tree.get(leaf);
    this.#note(leaf, now);
    const key = this.#keyOf(leaf, candidate, now);
    this.#tree.set(leaf, key);
    return key > before;
  }

  /** The best candidate that can be taken, without those of `excluded` accounts and without `passed` ones. undefined: there is none. */
  best(excluded: readonly string[], passed: readonly Candidate[], now: number): Candidate | undefined {
    if (excluded.length === 0 && passed.length === 0) return this.#candidates[this.#tree.best()];
    for (const id of excluded) for (const leaf of this.members.get(id)?.leaves ?? []) this.#tree.set(leaf, untakeable);
    for (const candidate of passed) this.#hide(candidate);
    const found = this.#candidates[this.#tree.best()];
    for (const id of excluded) for (const leaf of this.members.get(id)?.leaves ?? []) this.#restore(leaf, now);
    for (const { account } of passed)
      for (const leaf of this.members.get(account.id)?.leaves ?? []) this.#restore(leaf, now);
    return found;
  }

  /** Whether any candidate can be taken. */
  get room(): boolean {
    return this.#tree.max !== untakeable;
  }

  /** Whether the candidate has a free slot and its account answers as fast as others. */
  isPrompt(leaf: number): boolean {
    return this.#tree.get(leaf) >= 0;
  }

  /** How many candidates are rejected for this reason; UNSPECIFIED: can be taken. */
  rejectedFor(reason: ErrorReason): number {
    return this.#reasonCounts[reason] ?? 0;
  }

  /** Why the account's pools cannot be taken, one for each; UNSPECIFIED: can be taken. */
  reasonsOf(accountId: string): ErrorReason[] {
    const leaves = this.members.get(accountId)?.leaves ?? [];
    return [...leaves].map((leaf) => this.#reasons[leaf] ?? ErrorReason.UNSPECIFIED);
  }

  /** Whether a pool of the account could not be reached, and may come back. */
  isAway(accountId: string, now: number): boolean {
    const leaves = this.members.get(accountId)?.leaves ?? [];
    return [...leaves].some((leaf) => (this.#candidates[leaf]?.downUntil ?? 0) > now);
  }

  /** Failures keep more than the allowed share of the accounts out: then they are no judge any more. */
  get panics(): boolean {
    return this.#panics;
  }

  /** How many candidates there are. */
  get size(): number {
    return this.#reasonCounts.reduce((sum, count) => sum + count, 0);
  }

  get candidates(): Candidate[] {
    return [...this.members.values()].flatMap(({ leaves }) =>
      [...leaves].map((leaf) => this.#candidates[leaf] as Candidate),
    );
  }

  /** Up to `limit` candidates with what orders them, the best first, those that cannot be taken last. */
  rank(limit: number, now: number): Ranked[] {
    const ranked = this.#first(limit).map((leaf) => this.#ranked(leaf, now));
    return ranked.sort((a, b) => (a.key === b.key ? b.score - a.score : b.key - a.key));
  }

  /** The best leaves, and others if the best are fewer. */
  #first(limit: number): number[] {
    const some: number[] = [];
    for (const { leaves } of this.members.values()) {
      if (some.length > limit) break;
      some.push(...leaves);
    }
    if (some.length <= limit) return some;
    const best = new Map<number, number>();
    for (let leaf = this.#tree.best(); leaf !== -1 && best.size < limit; leaf = this.#tree.best()) {
      best.set(leaf, this.#tree.get(leaf));
      this.#tree.set(leaf, untakeable);
    }
    for (const [leaf, key] of best) this.#tree.set(leaf, key);
    return [...new Set([...best.keys(), ...some])].slice(0, limit);
  }

  #ranked(leaf: number, now: number): Ranked {
    const candidate = this.#candidates[leaf] as Candidate;
    const speed = this.speeds.of(candidate.account.id);
    const rejected = this.#rejection(candidate, now);
    const score = policies[this.#settings.policy](candidate);
    const key = rejected === ErrorReason.UNSPECIFIED ? orderKey(candidate, score, speed.weight) : untakeable;
    return { candidate, score, speed, key, rejected };
  }

  #keyOf(leaf: number, candidate: Candidate, now: number): number {
    const rejected = this.#rejection(candidate, now);
    const before = this.#reasons[leaf] ?? ErrorReason.UNSPECIFIED;
    if (rejected !== before) {
      this.#count(before, -1);
      this.#count(rejected, 1);
      this.#reasons[leaf] = rejected;
    }
    if (rejected !== ErrorReason.UNSPECIFIED) return untakeable;
    return orderKey(candidate, policies[this.#settings.policy](candidate), this.speeds.of(candidate.account.id).weight);
  }

  #rejection(candidate: Candidate, now: number): ErrorReason {
    this.#conditions.now = now;
    this.#conditions.openPasses = this.#panics;
    return rejection(candidate, this.#conditions);
  }

  #count(reason: ErrorReason, change: 1 | -1): void {
    this.#reasonCounts[reason] = (this.#reasonCounts[reason] ?? 0) + change;
  }

  #memberOf(leaf: number): Member | undefined {
    return this.members.get((this.#candidates[leaf] as Candidate).account.id);
  }

  #hide(candidate: Candidate): void {
    for (const leaf of this.members.get(candidate.account.id)?.leaves ?? []) {
      if (this.#candidates[leaf] === candidate) this.#tree.set(leaf, untakeable);
    }
  }

  #restore(leaf: number, now: number): void {
    this.#tree.set(leaf, this.#keyOf(leaf, this.#candidates[leaf] as Candidate, now));
  }

  /** Counts whether failures keep the leaf's account out. */
  #note(leaf: number, now: number): void {
    const member = this.#memberOf(leaf);
    if (!member) return;
    const open = openByFailures(member.account, now);
    if (open === this.#open.has(member)) return;
    if (open) this.#open.add(member);
    else this.#open.delete(member);
    this.#guard(now);
  }

  /**
   * Where failures keep out more than a set share, the fault is likely common to all, and taking out the rest would only move the load onto what
   * is left (Envoy calls it the panic threshold): then those openings do not count.
   */
  #guard(now: number): void {
    const panics = this.#open.size > 0 && this.#open.size / this.#serving > this.#settings.breaker.open_share_max;
    if (panics === this.#panics) return;
    this.#panics = panics;
    for (const { leaves } of this.#open) for (const leaf of leaves) this.#restore(leaf, now);
  }
}
