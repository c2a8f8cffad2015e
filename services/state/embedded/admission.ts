// The one decision that lets a request in, and takes everything that it needs, or nothing.
import { PriceSchema } from "#gen/drawbridge/v1/access_service";
import { End } from "#gen/drawbridge/v1/usage";
import { DrawbridgeError } from "../../kit/errors.ts";
import { type Levels, levelsAfter, levelsAt, limitStatus, waitMs } from "../limits.ts";
import type { AdmitRefusal, AdmitRequest, AdmitResult } from "../state.ts";
import type { Database, Row } from "./database.ts";
import { addQuota } from "./quota.ts";
import { encode } from "../records.ts";

/** Expired idempotency keys that one admission clears away at most. */
const clearLimit = 8;

/** Runs inside a transaction. */
export function admit(database: Database, request: AdmitRequest): AdmitResult {
  const user = database.get("SELECT * FROM users WHERE id = ?", request.userId);
  const key = database.get("SELECT * FROM api_keys WHERE id = ? AND user_id = ?", request.keyId, request.userId);
  if (!user || !key) return { admitted: false, refusal: { reason: "UNAUTHENTICATED" }, limits: undefined };

  const levels = levelsAt(levelsOf(user), request.tier, request.now);
  if (hasHold(database, request.userId, request.requestId)) {
    return { admitted: true, limits: limitStatus(levels, request.tier) };
  }
  if (endOf(database, request.userId, request.requestId)) {
    throw new DrawbridgeError("ALREADY_EXISTS", `Request "${request.requestId}" is settled already.`);
  }
  const refusal =
    refusalOfKey(key, request) ??
    refusalOfIdempotency(database, request) ??
    refusalOfLimits(database, levels, request) ??
    refusalOfMoney(user, key, request);
  if (refusal) return { admitted: false, refusal, limits: limitStatus(levels, request.tier) };

  const left = levelsAfter(levels, request.tokens);
  take(database, request, left);
  return { admitted: true, limits: limitStatus(left, request.tier) };
}

function hasHold(database: Database, userId: string, requestId: string): boolean {
  return database.get("SELECT 1 FROM holds WHERE user_id = ? AND request_id = ?", userId, requestId) !== undefined;
}

/** How a settled request ended. */
function endOf(database: Database, userId: string, requestId: string): Row | undefined {
  return database.get("SELECT end, micros FROM usage WHERE user_id = ? AND request_id = ?", userId, requestId);
}

/** A user's stored buckets; undefined: nothing was ever taken from them. */
export function levelsOf(user: Row): Levels | undefined {
  if (user["requests_level"] == null) return undefined;
  return {
    requests: Number(user["requests_level"]),
    tokens: Number(user["tokens_level"]),
    at: Number(user["levels_at"]),
  };
}

function refusalOfKey(key: Row, request: AdmitRequest): AdmitRefusal | undefined {
  const expired = key["expires_at"] != null && Number(key["expires_at"]) <= request.now;
  if (key["revoked_at"] != null || expired) return { reason: "UNAUTHENTICATED" };
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

function refusalOfLimits(database: Database, levels: Levels, request: AdmitRequest): AdmitRefusal | undefined {
  const { tier, now, tokens } = request;
  const requestsWait = waitMs(levels.requests, 1, tier.requestsPerMinute);
  if (requestsWait !== 0) return { reason: "REQUESTS_LIMITED", retryAfterMs: requestsWait };
  const tokensWait = waitMs(levels.tokens, tokens, tier.tokensPerMinute);
  if (tokensWait !== 0) return { reason: "TOKENS_LIMITED", retryAfterMs: tokensWait };
  const open = database.get(
    "SELECT count(*) AS count FROM holds WHERE user_id = ? AND expires_at > ?",
    request.userId,
    now,
  );
  return Number(open?.["count"]) >= Number(tier.concurrency) ? { reason: "CONCURRENCY_LIMITED" } : undefined;
}

function refusalOfMoney(user: Row, key: Row, request: AdmitRequest): AdmitRefusal | undefined {
  const available = Number(user["available"]);
  if (request.holdMicros > available) {
    return { reason: "INSUFFICIENT_QUOTA", scope: "user", availableMicros: available };
  }
  if (key["budget"] == null) return undefined;
  const room = Number(key["budget"]) - Number(key["spent"]) - Number(key["held"]);
  if (request.holdMicros <= room) return undefined;
  return { reason: "INSUFFICIENT_QUOTA", scope: "key", availableMicros: Math.max(0, room) };
}

function take(database: Database, request: AdmitRequest, left: Levels): void {
  const { userId, keyId, requestId, holdMicros, idempotency } = request;
  addQuota(database, userId, { available: -holdMicros, held: holdMicros });
  database.run("UPDATE api_keys SET held = held + ? WHERE id = ?", holdMicros, keyId);
  storeLevels(database, userId, left);
  database.run(
    "INSERT INTO holds VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    userId,
    requestId,
    keyId,
    request.model,
    holdMicros,
    request.tokens,
    request.price ? encode(PriceSchema, request.price) : null,
    request.now,
    request.expiresAt,
  );
  if (!idempotency) return;
  database.run(
    `DELETE FROM idempotency WHERE (user_id, key) IN
       (SELECT user_id, key FROM idempotency WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)`,
    request.now,
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

export function storeLevels(database: Database, userId: string, levels: Levels): void {
  database.run(
    "UPDATE users SET requests_level = ?, tokens_level = ?, levels_at = ? WHERE id = ?",
    levels.requests,
    levels.tokens,
    levels.at,
    userId,
  );
}
