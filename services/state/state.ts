// The state interface: what the system remembers, in the words of its domain. One method is one atomic operation, and one round trip
// where the store is remote. Its definition is the conformance suite in test/conformance/, which runs against every implementation.
//
// Conventions. `now` is wall time in milliseconds, passed in by the caller. Money is in millionths of a dollar (`Micros`), credits in
// thousandths (`Millicredits`): whole numbers from 0 to 2^53-1, no balance ever beyond; other amounts, and empty ids, are INVALID_ARGUMENT. An id
// is any other text. "By id" is the order of the ids' UTF-8 bytes. Every operation may be repeated: the same ids give the same result and
// change nothing more. A refusal that callers decide by is a result; a fault is a DrawbridgeError (STATE_UNAVAILABLE, NOT_FOUND,
// ALREADY_EXISTS, REVISION_CONFLICT, INVALID_ARGUMENT).
import type { Channel } from "#gen/drawbridge/v1/access_service";
import type { Account, AccountSpec, Breaker, Condition, CreditBalance } from "#gen/drawbridge/v1/account";
import type { ChannelSpec } from "#gen/drawbridge/v1/channel";
import type { FleetEvent } from "#gen/drawbridge/v1/fleet_service";
import type { Outcome } from "#gen/drawbridge/v1/usage";
import type { Worker } from "#gen/drawbridge/v1/worker";
import type { AccessStore } from "./state-access.ts";
import type { Ledger } from "./state-ledger.ts";

export type * from "./state-access.ts";
export type * from "./state-ledger.ts";

export interface State extends AsyncDisposable {
  readonly workers: WorkerDirectory;
  readonly accounts: AccountStore;
  readonly leases: LeaseStore;
  readonly breakers: BreakerStore;
  readonly access: AccessStore;
  readonly ledger: Ledger;
  readonly outcomes: OutcomeStore;
  readonly events: EventLog;
  readonly leader: LeaderLock;
  readonly demand: DemandStore;
  readonly channels: ChannelStore;
  /** Resolves when the store answers; else STATE_UNAVAILABLE. */
  ping(): Promise<void>;
  /** The store's name, which lasts as long as what is in it: `proposed` if it has none yet. A store that was emptied has none. */
  identify(proposed: string): Promise<string>;
}

/** Told that something changed, never what: the listener reads again. A hint may be lost or doubled, so listeners also read by time. */
export interface Observable {
  onChange(listener: () => void): Disposable;
}

// ---- Workers: who is alive -----------------------------------------------------------------------------------------------------------

export interface WorkerDirectory extends Observable {
  /** Enters or replaces a worker, with a lease until now + ttlMs. Sets revision, registered_at (kept for a known incarnation), expires_at. */
  put(worker: Worker, ttlMs: number, now: number): Promise<Worker>;
  /** Renews the lease with the worker's present state. false: the lease was lost or is another incarnation's; register again. */
  beat(worker: Worker, ttlMs: number, now: number): Promise<boolean>;
  /** Takes out this incarnation. false: it was not there. */
  remove(workerId: string, incarnation: string, now: number): Promise<boolean>;
  /** Live workers (their leases not ended at `now`), by id, and the directory's revision, which grows with every put, change and removal. */
  list(now: number): Promise<{ readonly workers: Worker[]; readonly revision: number }>;
  /** Takes out workers whose leases have ended; their ids. */
  prune(now: number): Promise<string[]>;
}

// ---- Accounts: the desired state, with credits and conditions -----------------------------------------------------------------------

export interface AccountStore extends Observable {
  /**
   * Creates the account and makes spec.initial_millicredits available, together. What an earlier account of this id left available is
   * withdrawn; what it spent, and what its leases hold, stays in the books. ALREADY_EXISTS.
   */
  create(spec: AccountSpec, managedBy: "file" | "api", now: number): Promise<Account>;
  /** The account with its credits; breaker and worker_ids are not filled in here. */
  get(id: string): Promise<Account | undefined>;
  /** All, by id. */
  list(): Promise<Account[]>;
  /**
   * Replaces the specification; generation and revision grow if it changed. Changes no credits. `revision` 0: whatever it is. NOT_FOUND,
   * REVISION_CONFLICT.
   */
  update(spec: AccountSpec, revision: number, now: number): Promise<Account>;
  /** Removes the account. Its credits stay in the books, so that running leases settle. `revision` as in update. NOT_FOUND, REVISION_CONFLICT. */
  remove(id: string, revision: number, now: number): Promise<void>;
  /** Replaces the conditions. Changes neither generation nor revision. No error if the account is gone. */
  setConditions(id: string, conditions: readonly Condition[], now: number): Promise<void>;
  /** Adds credits, once per grantId. The balance after it. NOT_FOUND. */
  grant(id: string, grantId: string, millicredits: number, now: number): Promise<CreditBalance>;
  /** Makes `available` this, by granting (or withdrawing) the difference. NOT_FOUND. */
  setAvailable(id: string, available: number, now: number): Promise<CreditBalance>;
}

// ---- Leases: a place for one prompt, and the credits that it reserves ----------------------------------------------------------------

export interface LeaseRequest {
  readonly attemptId: string;
  readonly requestId: string;
  readonly accountId: string;
  readonly workerId: string;
  readonly workerIncarnation: string;
  readonly model: string;
  /** Credits to reserve. */
  readonly millicredits: number;
  /** The most unexpired leases that this account may have on this worker: its slots and queue. */
  readonly capacity: number;
  readonly expiresAt: number;
  readonly now: number;
  /** The account's revision that the caller chose by; any other one refuses. Absent: any. */
  readonly accountRevision?: number;
  /** The account's breaker that the caller chose by; any other one refuses. Absent: any. */
  readonly breaker?: BreakerClaim;
}

/** What a lease takes of a breaker, in the same operation. */
export interface BreakerClaim {
  /** The revision that the caller knows; 0: there is no breaker. */
  readonly revision: bigint;
  /** What the breaker becomes by this lease, such as one with a probe fewer. Absent: it stays. */
  readonly next?: Breaker;
}

export interface LeaseRecord {
  readonly attemptId: string;
  readonly requestId: string;
  readonly accountId: string;
  readonly workerId: string;
  readonly workerIncarnation: string;
  readonly model: string;
  readonly millicredits: number;
  readonly expiresAt: number;
}

export type LeaseResult =
  | {
      readonly acquired: true;
      readonly lease: LeaseRecord;
      readonly credits: CreditBalance;
      /** The account's unexpired leases on the worker, this one included; absent for a lease that was there before. */
      readonly open?: number;
      /** The breaker as it was written with the lease. */
      readonly breaker?: Breaker;
    }
  | {
      readonly acquired: false;
      /** "changed": the account has another revision. "breaker": so has its breaker, which is given as it is. */
      readonly refused: "unknown_account" | "drained" | "changed" | "breaker" | "full" | "exhausted" | "settled";
      readonly breaker?: Breaker;
    };

export interface LeaseSettlement {
  /** Whether this call settled it; false: it was settled before, or never was. */
  readonly settled: boolean;
  /** What the account paid in all for the attempt. */
  readonly millicredits: number;
  readonly credits: CreditBalance | undefined;
}

export interface LeaseStore {
  /**
   * Checks account, drain state, the account's and the breaker's revision, capacity and credits (available ≥ millicredits), in this order, and
   * takes place, credits and what is claimed of the breaker: all or nothing. A repeated attemptId gives the lease that it has ("settled" if it is over, for an hour at least). An attempt is known by its
   * account and its id together.
   */
  acquire(request: LeaseRequest): Promise<LeaseResult>;
  /**
   * Ends a lease: charges outcome.millicredits if the agent reported them, else what was reserved if there was content, else nothing;
   * never more than reserved + available. Releases the rest. The first outcome of an attempt counts; an attempt that outcome.account_id does
   * not know settles nothing. Works after the account was removed.
   */
  settle(outcome: Outcome, now: number): Promise<LeaseSettlement>;
  /** Moves the expiry of leases that are open; others are skipped. */
  renew(accountId: string, attemptIds: readonly string[], expiresAt: number): Promise<void>;
  /** Open leases whose expiry is at or before `now`, oldest first. */
  expired(now: number, limit: number): Promise<LeaseRecord[]>;
  /** Open leases of an account, by attempt id. */
  open(accountId: string): Promise<LeaseRecord[]>;
}

/** The outcomes that workers and gateways recorded, kept for the sweeps. */
export interface OutcomeStore extends Observable {
  /** Remembers an outcome until now + ttlMs. The first one of an attempt stays, and so does the first with content of a request. */
  record(outcome: Outcome, ttlMs: number, now: number): Promise<void>;
  /** The outcome of an attempt of a request. */
  byAttempt(attempt: Pick<LeaseRecord, "requestId" | "attemptId">, now: number): Promise<Outcome | undefined>;
  /** The outcome that is final for a request: the one with content. undefined: none yet. */
  finalOf(requestId: string, now: number): Promise<Outcome | undefined>;
}

// ---- Breakers -----------------------------------------------------------------------------------------------------------------------

export interface BreakerStore extends Observable {
  /** undefined: closed since ever. */
  get(accountId: string): Promise<Breaker | undefined>;
  list(): Promise<Breaker[]>;
  /** Writes if the stored revision is breaker.revision (0: none stored). The written breaker, with its new revision; undefined: another was first. */
  compareAndSet(breaker: Breaker): Promise<Breaker | undefined>;
}

// ---- Events and leadership -----------------------------------------------------------------------------------------------------------

export interface EventLog extends Observable {
  /** Appends, and gives the event its revision. The log keeps the newest 10,000. */
  append(event: Omit<FleetEvent, "revision" | "$typeName" | "$unknown">): Promise<number>;
  /** Events after a revision, oldest first, and the newest revision. */
  list(afterRevision: number, limit: number): Promise<{ readonly events: FleetEvent[]; readonly revision: number }>;
}

/** Who has the lock. */
export interface LeaderTerm {
  readonly owner: string;
  /**
   * The fencing token of whoever leads: it grows whenever the lock changes hands. A new one is `now` at least, so that it grows too where the
   * store lost the one before: a replica that took over may not have heard of it, and an emptied store has heard of nothing.
   */
  readonly epoch: number;
  /** When the lock ends unless it is renewed, in ms from now. */
  readonly leftMs: number;
}

/** The hint: the lock was given up. One that ends by itself gives none. */
export interface LeaderLock extends Observable {
  /**
   * Takes the lock if it is free or ended, or renews it if `owner` has it. A lock that ended has changed hands, even if its owner takes it
   * again.
   */
  acquire(owner: string, ttlMs: number, now: number): Promise<LeaderTerm & { readonly leads: boolean }>;
  /** Gives the lock up, if `owner` has it. */
  release(owner: string): Promise<void>;
  /** Who leads; undefined: nobody. */
  current(now: number): Promise<LeaderTerm | undefined>;
}

// ---- Demand: requests that no worker can take ----------------------------------------------------------------------------------------

export interface ModelDemand {
  readonly model: string;
  /** Requests that wait for it, over all schedulers. At least 1. */
  readonly waiting: number;
}

export interface DemandStore extends Observable {
  /**
   * Says how many requests wait for a model at this scheduler, in place of what it said before; until now + ttlMs, unless it says so again.
   * 0 takes it back.
   */
  report(schedulerId: string, model: string, waiting: number, ttlMs: number, now: number): Promise<void>;
  /** Models that requests wait for at `now`, by name. */
  list(now: number): Promise<ModelDemand[]>;
}

// ---- Channels: ways to an answer -----------------------------------------------------------------------------------------------------

export interface ChannelStore extends Observable {
  /** ALREADY_EXISTS. */
  create(spec: ChannelSpec, managedBy: "file" | "api", now: number): Promise<Channel>;
  /** undefined: there is none. Status is not filled in here. */
  get(id: string): Promise<Channel | undefined>;
  /** All, by id. */
  list(): Promise<Channel[]>;
  /**
   * Replaces the specification, and says who manages it from now on. The same again changes nothing; else the revision grows. `revision` 0:
   * whatever it is. NOT_FOUND, REVISION_CONFLICT.
   */
  update(spec: ChannelSpec, managedBy: "file" | "api", revision: number): Promise<Channel>;
  /** Switches a channel on or off. The revision grows, also where it was so already. NOT_FOUND. */
  setDisabled(id: string, disabled: boolean): Promise<Channel>;
  /** NOT_FOUND. */
  remove(id: string): Promise<void>;
}
