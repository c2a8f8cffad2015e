// The one decision that lets a request in, and takes everything that it needs, or nothing.
import { BudgetWindow, PriceSchema, type RateLimits } from "#gen/drawbridge/v1/access_service";
import { End } from "#gen/drawbridge/v1/usage";
import { DrawbridgeError } from "../../kit/errors.ts";
import { type BudgetTerms, type Counted, countedAt, windowEnd } from "../budgets.ts";
import { type Levels, levelsAfter, levelsAt, limitStatus, type Rates, tighter, waitMs } from "../limits.ts";
import type { AdmitRefusal, AdmitRequest, AdmitResult, LimitScope, LimitStatus } from "../state.ts";
import type { Database, Row } from "./database.ts";
import { addQuota } from "./quota.ts";
import { encode } from "../records.ts";
import { holdSpending, levelsOf, limitsOf, spendingOf, storeLevels } from "./spending.ts";

/** Expired idempotency keys that one admission clears away at most. */
const clearLimit = 8;

/** Limits that a request meets: its user's, and its key's where that has any. */
interface Bucket {
  readonly scope: LimitScope;
  readonly rates: Rates & { readonly concurrency?: bigint | undefined };
  readonly levels: Levels;
}

/** A budget that a request meets. */
interface MetBudget {
  readonly scope: "user_budget" | "key";
  readonly terms: BudgetTerms;
  readonly counted: Counted;
}

/** Runs inside a transaction. */
export function admit(database: Database, request: AdmitRequest): AdmitResult {
  const user = database.get("SELECT * FROM users WHERE id = ? AND deleted_at IS NULL", request.userId);
  const key = database.get("SELECT * FROM api_keys WHERE id = ? AND user_id = ?", request.keyId, request.userId);
  if (!user || !key) return { admitted: false, refusal: { reason: "UNAUTHENTICATED" }, limits: undefined };

  const buckets = bucketsOf(user, key, request);
  if (hasHold(database, request.userId, request.requestId)) return { admitted: true, limits: statusOf(buckets) };
  if (endOf(database, request.userId, request.requestId)) {
    throw new DrawbridgeError("ALREADY_EXISTS", `Request "${request.requestId}" is settled already.`);
  }
  const budgets = budgetsOf(user, key, request);
  const refusal =
    refusalOfKey(user, key, request) ??
    refusalOfIdempotency(database, request) ??
    refusalOfLimits(database, buckets, request) ??
    refusalOfMoney(user, budgets, request);
  if (refusal) return { admitted: false, refusal, limits: statusOf(buckets) };

  const left = buckets.map((bucket) => ({ ...bucket, levels: levelsAfter(bucket.levels, request.tokens) }));
  take(database, request, left, budgets);
  return { admitted: true, limits: statusOf(left) };
}

function bucketsOf(user: Row, key: Row, { tier, now }: AdmitRequest): Bucket[] {
  const bucket = (scope: LimitScope, row: Row, rates: Bucket["rates"]): Bucket => {
    return { scope, rates, levels: levelsAt(levelsOf(row), rates, now) };
  };
  const own: RateLimits | undefined = limitsOf(key);
  return [bucket("user", user, tier), ...(own ? [bucket("key", key, own)] : [])];
}

function statusOf(buckets: readonly Bucket[]): LimitStatus {
  const [ofUser, ofKey] = buckets.map(({ levels, rates }) => limitStatus(levels, rates));
  if (!ofUser) throw new DrawbridgeError("INTERNAL", "A request meets no limits.");
  return tighter(ofUser, ofKey);
}

function budgetsOf(user: Row, key: Row, { tier, now }: AdmitRequest): MetBudget[] {
  const ofTier = tier.budget && { micros: Number(tier.budget.micros), window: tier.budget.window };
  const met = (scope: MetBudget["scope"], row: Row, terms: BudgetTerms | undefined): MetBudget[] =>
    terms ? [{ scope, terms, counted: countedAt(terms.window, spendingOf(row), now) }] : [];
  return [...met("user_budget", user, termsOf(user) ?? ofTier), ...met("key", key, termsOf(key))];
}

function termsOf(row: Row): BudgetTerms | undefined {
  if (row["budget"] == null) return undefined;
  return { micros: Number(row["budget"]), window: Number(row["budget_window"]) as BudgetWindow };
}

function hasHold(database: Database, userId: string, requestId: string): boolean {
  return database.get("SELECT 1 FROM holds WHERE user_id = ? AND request_id = ?", userId, requestId) !== undefined;
}

/** How a settled request ended. */
function endOf(database: Database, userId: string, requestId: string): Row | undefined {
  return database.get("SELECT end, micros FROM usage WHERE user_id = ? AND request_id = ?", userId, requestId);
}

function refusalOfKey(user: Row, key: Row, request: AdmitRequest): AdmitRefusal | undefined {
  const expired = key["expires_at"] != null && Number(key["expires_at"]) <= request.now;
  if (key["revoked_at"] != null || expired) return { reason: "UNAUTHENTICATED" };
  if (Number(user["disabled"]) === 1) return { reason: "PERMISSION_DENIED" };
  const models = JSON.parse(String(key["models"])) as string[];
  return models.length > 0 && !models.includes(request.model) ? { reason: "MODEL_NOT_ALLOWED" } : undefined;
}

function refusalOfIdempotency(database: Database, request: AdmitRequest): AdmitRefusal | undefined {
  if (!request.idempotency) return undefined;
  const known = database.get(
    "SELECT * FROM idempotency WHERE user_id = ? AND key = ? AND expires_at > ?",
    request.userId,
    request.idempotency.key,
    request.now,
  );
  if (!known) return undefined;
  const requestId = String(known["request_id"]);
  const conflict = (kind: "other_body" | "running" | "billed"): AdmitRefusal => ({
    reason: "IDEMPOTENCY_CONFLICT",
    conflict: kind,
    requestId,
  });
  if (known["body_hash"] !== request.idempotency.bodyHash) return conflict("other_body");
  if (hasHold(database, request.userId, requestId)) return conflict("running");
  const entry = endOf(database, request.userId, requestId);
  const billed = entry && (entry["end"] === End.FINISHED || Number(entry["micros"]) > 0);
  return billed ? conflict("billed") : undefined;
}

function refusalOfLimits(
  database: Database,
  buckets: readonly Bucket[],
  { userId, keyId, tokens, now }: AdmitRequest,
): AdmitRefusal | undefined {
  for (const { scope, levels, rates } of buckets) {
    const retryAfterMs = waitMs(levels.requests, 1, rates.requestsPerMinute);
    if (retryAfterMs === 0) continue;
    return { reason: "REQUESTS_LIMITED", scope, limit: Number(rates.requestsPerMinute), retryAfterMs };
  }
  for (const { scope, levels, rates } of buckets) {
    const retryAfterMs = waitMs(levels.tokens, tokens, rates.tokensPerMinute);
    if (retryAfterMs === 0) continue;
    return { reason: "TOKENS_LIMITED", scope, limit: Number(rates.tokensPerMinute), retryAfterMs };
  }
  for (const { scope, rates } of buckets) {
    if (rates.concurrency === undefined) continue;
    const open = database.get(
      `SELECT count(*) AS count FROM holds WHERE user_id = ? AND expires_at > ? ${scope === "key" ? "AND key_id = ?" : ""}`,
      userId,
      now,
      ...(scope === "key" ? [keyId] : []),
    );
    const limit = Number(rates.concurrency);
    if (Number(open?.["count"]) >= limit) return { reason: "CONCURRENCY_LIMITED", scope, limit };
  }
  return undefined;
}

function refusalOfMoney(
  user: Row,
  budgets: readonly MetBudget[],
  { holdMicros, now }: AdmitRequest,
): AdmitRefusal | undefined {
  const refusal = (scope: "user" | MetBudget["scope"], room: number, resetsAt?: number): AdmitRefusal => {
    return { reason: "INSUFFICIENT_QUOTA", scope, availableMicros: Math.max(0, room), resetsAt };
  };
  const available = Number(user["available"]);
  if (holdMicros > available) return refusal("user", available);
  for (const { scope, terms, counted } of budgets) {
    const room = terms.micros - counted.spent - counted.held;
    if (holdMicros > room) return refusal(scope, room, windowEnd(terms.window, now));
  }
  return undefined;
}

function take(database: Database, request: AdmitRequest, left: readonly Bucket[], budgets: readonly MetBudget[]): void {
  const { userId, keyId, requestId, holdMicros } = request;
  addQuota(database, userId, { available: -holdMicros, held: holdMicros });
  database.run("UPDATE api_keys SET held = held + ? WHERE id = ?", holdMicros, keyId);
  for (const { scope, levels } of left) {
    if (scope === "user") storeLevels(database, "users", userId, levels);
    else storeLevels(database, "api_keys", keyId, levels);
  }
  const met = (scope: MetBudget["scope"]) => budgets.find((budget) => budget.scope === scope);
  const ofUser = met("user_budget");
  const ofKey = met("key");
  if (ofUser) holdSpending(database, "users", userId, ofUser.counted, holdMicros);
  if (ofKey) holdSpending(database, "api_keys", keyId, ofKey.counted, holdMicros);
  database.run(
    `INSERT INTO holds (user_id, request_id, key_id, model, micros, tokens, price, created_at, expires_at,
       user_budget, user_period, key_budget, key_period)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    userId,
    requestId,
    keyId,
    request.model,
    holdMicros,
    request.tokens,
    request.price ? encode(PriceSchema, request.price) : null,
    request.now,
    request.expiresAt,
    ofUser?.terms.micros ?? null,
    ofUser?.counted.period ?? "",
    ofKey?.terms.micros ?? null,
    ofKey?.counted.period ?? "",
  );
  rememberIdempotency(database, request);
}

function rememberIdempotency(database: Database, { userId, requestId, idempotency, now }: AdmitRequest): void {
  if (!idempotency) return;
  database.run(
    `DELETE FROM idempotency WHERE (user_id, key) IN
       (SELECT user_id, key FROM idempotency WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)`,
    now,
    clearLimit,
  );
  database.run(
    "INSERT OR REPLACE INTO idempotency VALUES (?, ?, ?, ?, ?)",
    userId,
    idempotency.key,
    requestId,
    idempotency.bodyHash,
    idempotency.expiresAt,
  );
}
