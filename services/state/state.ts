// The state interface: what the system remembers, in the words of its domain. One method is one atomic operation, and one round trip
// where the store is remote. Its definition is the conformance suite in test/conformance/, which runs against every implementation.
//
// Conventions. `now` is wall time in milliseconds, passed in by the caller. Money is in millionths of a dollar (`Micros`), credits in
// thousandths (`Millicredits`): whole numbers from 0 to 2^53-1, no balance ever beyond; other amounts, and empty ids, are INVALID_ARGUMENT. An id
// is any other text. "By id" is the order of the ids' UTF-8 bytes. Every operation may be repeated: the same ids give the same result and
// change nothing more. A refusal that callers decide by is a result; a fault is a DrawbridgeError (STATE_UNAVAILABLE, NOT_FOUND,
// ALREADY_EXISTS, REVISION_CONFLICT, INVALID_ARGUMENT).
import type {
  AdminKey,
  AdminRole,
  ApiKey,
  BudgetWindow,
  Channel,
  Price,
  QuotaBalance,
  RateLimits,
  RedemptionCode,
  Tier,
  User,
} from "#gen/drawbridge/v1/access_service";
import type { Account, AccountSpec, Breaker, Condition, CreditBalance } from "#gen/drawbridge/v1/account";
import type { ChannelSpec } from "#gen/drawbridge/v1/channel";
import type { FleetEvent } from "#gen/drawbridge/v1/fleet_service";
import type { End, Outcome, Usage, UsageEntry } from "#gen/drawbridge/v1/usage";
import type { Worker } from "#gen/drawbridge/v1/worker";
import type { BudgetTerms } from "./budgets.ts";

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
  /** The outcome of an attempt. */
  byAttempt(attemptId: string, now: number): Promise<Outcome | undefined>;
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

// ---- Access: users, keys, codes, tiers, prices ----------------------------------------------------------------------------------------------

/** What is stored of an API key. */
export interface NewApiKey {
  readonly id: string;
  readonly userId: string;
  readonly name: string;
  readonly prefix: string;
  /** Hex digest; the key itself is stored nowhere. */
  readonly hash: string;
  readonly models: readonly string[];
  readonly allowedAddresses: readonly string[];
  readonly budgetMicros: number | undefined;
  /** Default: all time. */
  readonly budgetWindow?: BudgetWindow | undefined;
  readonly limits?: RateLimits | undefined;
  readonly expiresAt: number | undefined;
}

export interface NewUser {
  readonly id: string;
  readonly tier: string;
  readonly quotaMicros: number;
  readonly budget?: BudgetTerms | undefined;
}

/** What is absent stays; what is undefined is taken away. */
export interface UserChanges {
  readonly tier?: string;
  readonly disabled?: boolean;
  readonly budget?: BudgetTerms | undefined;
}

/** As UserChanges. */
export interface KeyChanges {
  readonly name?: string;
  readonly models?: readonly string[];
  readonly allowedAddresses?: readonly string[];
  readonly budget?: BudgetTerms | undefined;
  readonly limits?: RateLimits | undefined;
  readonly expiresAt?: number | undefined;
}

/** The secret that a key gets instead of its present one. */
export interface NewSecret {
  readonly prefix: string;
  readonly hash: string;
  /** When the present secret ends. */
  readonly previousEndsAt: number;
}

export interface NewAdminKey {
  readonly id: string;
  readonly name: string;
  readonly prefix: string;
  readonly hash: string;
  readonly role: AdminRole;
}

export interface NewCode {
  readonly id: string;
  readonly name: string;
  readonly prefix: string;
  readonly hash: string;
  readonly quotaMicros: number;
  readonly expiresAt: number | undefined;
}

export type RedeemResult =
  | { readonly redeemed: true; readonly user: User; readonly quotaMicros: number }
  | { readonly redeemed: false; readonly refused: "unknown" | "expired" | "used" };

/** Budgets of users and keys are told as of the last request; `budgetNow` brings them to the present. */
export interface AccessStore extends Observable {
  /** Creates a user and grants their quota, together. ALREADY_EXISTS, also for the id of a deleted one. */
  createUser(user: NewUser, now: number): Promise<User>;
  /** undefined: there is none, or no more. */
  getUser(id: string): Promise<User | undefined>;
  /** NOT_FOUND. */
  updateUser(id: string, changes: UserChanges, now: number): Promise<User>;
  /** Ends a user and revokes all of their keys. Their holds still settle; ledger and balance stay. NOT_FOUND. */
  deleteUser(id: string, now: number): Promise<void>;
  /** Users by id, after `afterId`. */
  listUsers(afterId: string, limit: number): Promise<User[]>;
  /** Adds quota, once per grantId. NOT_FOUND. */
  grantQuota(userId: string, grantId: string, micros: number, now: number): Promise<User>;
  /** NOT_FOUND (user), ALREADY_EXISTS (id or hash). */
  createKey(key: NewApiKey, now: number): Promise<ApiKey>;
  /**
   * Whose key has this hash. Callers may cache the answer for a second: a hash never changes its key, and admit checks the key's state again. A secret
   * that was rotated out finds its key until its grace is over; that end is then the found key's expiry, unless the key's own is earlier.
   */
  findKey(hash: string): Promise<ApiKey | undefined>;
  /** Keys by id, after `afterId`; `userId` undefined: everybody's. */
  listKeys(userId: string | undefined, afterId: string, limit: number): Promise<ApiKey[]>;
  /** Ends a key. A revoked one keeps its first time. NOT_FOUND. */
  revokeKey(id: string, now: number): Promise<ApiKey>;
  /** NOT_FOUND. */
  updateKey(id: string, changes: KeyChanges, now: number): Promise<ApiKey>;
  /** Gives a key another secret. One that was rotated out before finds it no more. NOT_FOUND, ALREADY_EXISTS (hash). */
  rotateKey(id: string, secret: NewSecret, now: number): Promise<ApiKey>;
  /** Adds an admin key, unless one of this hash is there; the one that is there then. */
  addAdminKey(key: NewAdminKey, now: number): Promise<AdminKey>;
  findAdminKey(hash: string): Promise<AdminKey | undefined>;
  /** Oldest first. */
  listAdminKeys(): Promise<AdminKey[]>;
  /** Takes an admin key out. false: it is the last one with the role admin, and stays. NOT_FOUND. */
  revokeAdminKey(id: string, now: number): Promise<boolean>;
  /** Adds redemption codes. ALREADY_EXISTS (an id or a hash); then some of them may have been added. */
  addCodes(codes: readonly NewCode[], now: number): Promise<RedemptionCode[]>;
  /** Codes by id, after `afterId`. */
  listCodes(afterId: string, limit: number): Promise<RedemptionCode[]>;
  /** Grants a user what the code of this hash is worth, once. NOT_FOUND (user). */
  redeemCode(hash: string, userId: string, now: number): Promise<RedeemResult>;
  /** Whether there is any user or admin key: false only on a first start. */
  initialized(): Promise<boolean>;
  setTier(tier: Tier): Promise<void>;
  listTiers(): Promise<Tier[]>;
  setPrice(price: Price): Promise<void>;
  listPrices(): Promise<Price[]>;
}

// ---- Ledger: holds and usage ---------------------------------------------------------------------------------------------------------

export interface AdmitRequest {
  readonly requestId: string;
  readonly userId: string;
  readonly keyId: string;
  readonly model: string;
  /** What the request may cost at most; 0 for a model without a price. */
  readonly holdMicros: number;
  /** Counted against tokens/min now; corrected when the request settles. */
  readonly tokens: number;
  /** Limits of the user's tier, and the budget of users without one of their own. */
  readonly tier: Tier;
  /** The price that the hold freezes, with the tier's ratio; absent: the model has none. */
  readonly price: Price | undefined;
  /** The hold is swept after this time unless it is renewed. */
  readonly expiresAt: number;
  /** The client's Idempotency-Key with a digest of the body. */
  readonly idempotency?: { readonly key: string; readonly bodyHash: string; readonly expiresAt: number } | undefined;
  readonly now: number;
}

/** What the rate-limit headers say: of user and key the tighter, for each kind. Buckets refill continuously: rate/60 a second, up to a minute's worth. A limit of 0 allows nothing. */
export interface LimitStatus {
  readonly requests: { readonly limit: number; readonly remaining: number; readonly resetMs: number };
  readonly tokens: { readonly limit: number; readonly remaining: number; readonly resetMs: number };
}

/** Whose limit: the one that the tier gives its user, or the key's own. */
export type LimitScope = "user" | "key";

export type AdmitRefusal =
  /** The key is unknown, revoked or expired, or its user is gone. */
  | { readonly reason: "UNAUTHENTICATED" }
  /** The user is disabled. */
  | { readonly reason: "PERMISSION_DENIED" }
  | { readonly reason: "MODEL_NOT_ALLOWED" }
  /** `scope` and `limit` say which limit. `retryAfterMs` until it fits; absent: it never will (more tokens than a minute's worth). */
  | {
      readonly reason: "REQUESTS_LIMITED" | "TOKENS_LIMITED";
      readonly scope: LimitScope;
      readonly limit: number;
      readonly retryAfterMs: number | undefined;
    }
  | { readonly reason: "CONCURRENCY_LIMITED"; readonly scope: LimitScope; readonly limit: number }
  /** `scope` says whose money is short: the user's quota, the user's budget, or the key's; `resetsAt`, when a budget begins anew. */
  | {
      readonly reason: "INSUFFICIENT_QUOTA";
      readonly scope: "user" | "user_budget" | "key";
      readonly availableMicros: number;
      readonly resetsAt: number | undefined;
    }
  /** The key was used before: with another body, by a request that runs, or by one that was billed. */
  | {
      readonly reason: "IDEMPOTENCY_CONFLICT";
      readonly conflict: "other_body" | "running" | "billed";
      readonly requestId: string;
    };

export type AdmitResult =
  | { readonly admitted: true; readonly limits: LimitStatus }
  | { readonly admitted: false; readonly refusal: AdmitRefusal; readonly limits: LimitStatus | undefined };

export interface HoldRecord {
  readonly requestId: string;
  readonly userId: string;
  readonly keyId: string;
  readonly model: string;
  readonly holdMicros: number;
  readonly tokens: number;
  readonly price: Price | undefined;
  readonly createdAt: number;
  readonly expiresAt: number;
}

export interface SettleRequest {
  readonly requestId: string;
  readonly userId: string;
  /** What the request cost at its held price. Charged up to held + available (of the user and of the key's budget). */
  readonly costMicros: number;
  readonly end: End;
  readonly usage: Usage | undefined;
  /** The account that produced the answer; empty: none did. */
  readonly accountId: string;
  readonly millicredits: number;
  readonly now: number;
}

export interface UsageQuery {
  readonly userId?: string | undefined;
  readonly keyId?: string | undefined;
  readonly model?: string | undefined;
  readonly since?: number | undefined;
  readonly until?: number | undefined;
  readonly pageToken?: string | undefined;
  readonly limit: number;
}

export interface Ledger extends Observable {
  /**
   * One decision: the key is good and may use the model, requests/min, tokens/min and concurrency of user and key have room, the user's quota and
   * budget and the key's budget cover the hold; then all of it is taken, or nothing. They are looked at in this order, of each the user's first, after
   * the idempotency key, and the first that says no is the refusal. Concurrency is the number of open holds that have not expired: the user's, and,
   * for a key that has a limit, the key's own since it has one. A repeated requestId whose hold is open is admitted again
   * and takes nothing more; one that is settled is ALREADY_EXISTS. A request is known by its user and its id together.
   *
   * An idempotency key belongs to its user: "running" while the hold of its request is open, "billed" once that settled as END_FINISHED or
   * with a cost, and free again after any other end, or when it expires.
   */
  admit(request: AdmitRequest): Promise<AdmitResult>;
  /**
   * Ends a hold: charges, releases the rest, gives back or takes the difference in tokens (input + output; none without usage), frees the
   * concurrency, and writes the entry. Once per requestId: a repeated call gives the entry that is there. undefined: no such hold, ever, or
   * its entry was trimmed.
   */
  settle(request: SettleRequest): Promise<{ readonly settled: boolean; readonly entry: UsageEntry } | undefined>;
  /** Moves the expiry of holds that are open; others are skipped. */
  renew(
    holds: readonly { readonly userId: string; readonly requestId: string; readonly keyId: string }[],
    expiresAt: number,
  ): Promise<void>;
  /** Open holds whose expiry is at or before `now`, oldest first. */
  expired(now: number, limit: number): Promise<HoldRecord[]>;
  /** An open hold. */
  hold(userId: string, requestId: string): Promise<HoldRecord | undefined>;
  /** Limits as they stand, taking nothing: the user's, or of user and key the tighter. */
  limits(userId: string, tier: Tier, now: number, keyId?: string): Promise<LimitStatus>;
  quota(userId: string): Promise<QuotaBalance | undefined>;
  /** Entries with since ≤ at < until, newest first: by time, then by request and user. INVALID_ARGUMENT: a token of somebody else's. */
  usage(query: UsageQuery): Promise<{ readonly entries: UsageEntry[]; readonly nextPageToken: string }>;
  /** Deletes entries older than `before`, oldest first, at most `limit`; how many. Balances keep what was spent. */
  trim(before: number, limit: number): Promise<number>;
}

// ---- Events and leadership -----------------------------------------------------------------------------------------------------------

export interface EventLog extends Observable {
  /** Appends, and gives the event its revision. The log keeps the newest 10,000. */
  append(event: Omit<FleetEvent, "revision" | "$typeName" | "$unknown">): Promise<number>;
  /** Events after a revision, oldest first, and the newest revision. */
  list(afterRevision: number, limit: number): Promise<{ readonly events: FleetEvent[]; readonly revision: number }>;
}

export interface LeaderLock {
  /**
   * Takes the lock if it is free or ended, or renews it if `owner` has it. `epoch` grows by one each time that the lock changes hands, and
   * is the fencing token of whoever leads. A lock that ended has changed hands, even if its owner takes it again.
   */
  acquire(owner: string, ttlMs: number, now: number): Promise<{ leads: boolean; owner: string; epoch: number }>;
  /** Gives the lock up, if `owner` has it. */
  release(owner: string): Promise<void>;
  /** Who leads; undefined: nobody. */
  current(now: number): Promise<{ readonly owner: string; readonly epoch: number } | undefined>;
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
