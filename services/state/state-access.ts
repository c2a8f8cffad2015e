// The part of the state interface that knows users, keys, codes, tiers and prices. state.ts says what holds for all of it.
import type {
  AdminKey,
  AdminRole,
  ApiKey,
  BudgetWindow,
  Price,
  RateLimits,
  RedemptionCode,
  Tier,
  User,
} from "#gen/drawbridge/v1/access_service";
import type { BudgetTerms } from "./budgets.ts";
import type { Observable } from "./state.ts";

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
