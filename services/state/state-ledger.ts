// The part of the state interface that lets requests in and counts what they cost. state.ts says what holds for all of it.
import type { Price, QuotaBalance, Tier } from "#gen/drawbridge/v1/access_service";
import type { End, Usage, UsageEntry } from "#gen/drawbridge/v1/usage";
import type { Observable } from "./state.ts";

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
