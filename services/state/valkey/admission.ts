// The one decision that lets a request in: the script decides, here its arguments and what its verdict means.
import { BudgetWindow, PriceSchema } from "#gen/drawbridge/v1/access_service";
import { DrawbridgeError } from "../../kit/errors.ts";
import { windowEnd, windowStart } from "../budgets.ts";
import { type Levels, limitStatus, type Rates, tighter, waitMs } from "../limits.ts";
import { encode } from "../records.ts";
import type { AdmitRefusal, AdmitRequest, AdmitResult, LimitScope } from "../state.ts";
import type { Argument } from "./connection.ts";
import type { Context } from "./context.ts";
import { texts } from "./replies.ts";

export async function admit({ connection, keys }: Context, request: AdmitRequest): Promise<AdmitResult> {
  const { userId, requestId, keyId } = request;
  const admitKeys = [
    keys.user(userId),
    keys.key(userId, keyId),
    keys.holds(userId),
    keys.hold(userId, requestId),
    keys.entries(userId),
    keys.idempotency(userId, request.idempotency?.key ?? ""),
    keys.keyHolds(userId, keyId),
  ];
  const [verdict, detail = "", more = "", ...levels] = texts(
    await connection.script("admit", admitKeys, admitArguments(request)),
  );
  const buckets = bucketsOf(levels, request);
  if (!buckets) return { admitted: false, refusal: { reason: "UNAUTHENTICATED" }, limits: undefined };
  const { user, key } = buckets;
  const limits = tighter(limitStatus(user.levels, user.rates), key && limitStatus(key.levels, key.rates));
  if (verdict === "admitted") return { admitted: true, limits };
  if (verdict === "settled") {
    throw new DrawbridgeError("ALREADY_EXISTS", `Request "${requestId}" is settled already.`);
  }
  return { admitted: false, refusal: refusalOf({ verdict, detail, more }, buckets, request), limits };
}

function admitArguments(request: AdmitRequest): Argument[] {
  const { tier, idempotency, now } = request;
  return [
    request.requestId,
    now,
    request.expiresAt,
    request.holdMicros,
    request.tokens,
    String(tier.requestsPerMinute),
    String(tier.tokensPerMinute),
    String(tier.concurrency),
    request.model,
    request.keyId,
    request.price ? encode(PriceSchema, request.price) : "",
    // Never empty where there is a key, whatever the digest.
    idempotency ? `=${idempotency.bodyHash}` : "",
    idempotency?.expiresAt ?? 0,
    windowStart(BudgetWindow.DAY, now),
    windowStart(BudgetWindow.WEEK, now),
    windowStart(BudgetWindow.MONTH, now),
    tier.budget ? String(tier.budget.micros) : "",
    tier.budget?.window ?? 0,
  ];
}

interface Bucket {
  readonly rates: Rates;
  readonly levels: Levels;
}

interface Buckets {
  readonly user: Bucket;
  /** undefined: the key has no limits of its own. */
  readonly key: Bucket | undefined;
}

/** undefined: there is no such user or key. */
function bucketsOf(levels: readonly (string | undefined)[], { tier }: AdmitRequest): Buckets | undefined {
  const [requests, tokens, at, rpm, tpm, keyRequests, keyTokens, keyAt] = levels;
  if (requests === undefined) return undefined;
  const rate = (text: string | undefined) => (text ? BigInt(text) : undefined);
  const level = (text: string | undefined) => (text ? Number(text) : Number.POSITIVE_INFINITY);
  return {
    user: { rates: tier, levels: { requests: Number(requests), tokens: Number(tokens), at: Number(at) } },
    key:
      keyAt === undefined
        ? undefined
        : {
            rates: { requestsPerMinute: rate(rpm), tokensPerMinute: rate(tpm) },
            levels: { requests: level(keyRequests), tokens: level(keyTokens), at: Number(keyAt) },
          },
  };
}

interface Verdict {
  readonly verdict: string | undefined;
  readonly detail: string;
  readonly more: string;
}

function refusalOf({ verdict, detail, more }: Verdict, buckets: Buckets, { tokens, now }: AdmitRequest): AdmitRefusal {
  const scope: LimitScope = more === "key" ? "key" : "user";
  const { levels, rates } = (scope === "key" ? buckets.key : undefined) ?? buckets.user;
  const limit = Number(detail);
  switch (verdict) {
    case "unauthenticated":
      return { reason: "UNAUTHENTICATED" };
    case "disabled":
      return { reason: "PERMISSION_DENIED" };
    case "model_not_allowed":
      return { reason: "MODEL_NOT_ALLOWED" };
    case "requests_limited": {
      const retryAfterMs = waitMs(levels.requests, 1, rates.requestsPerMinute);
      return { reason: "REQUESTS_LIMITED", scope, limit, retryAfterMs };
    }
    case "tokens_limited": {
      const retryAfterMs = waitMs(levels.tokens, tokens, rates.tokensPerMinute);
      return { reason: "TOKENS_LIMITED", scope, limit, retryAfterMs };
    }
    case "concurrency_limited":
      return { reason: "CONCURRENCY_LIMITED", scope, limit };
    case "user_quota":
    case "user_budget":
    case "key_budget":
      return {
        reason: "INSUFFICIENT_QUOTA",
        scope: verdict === "user_quota" ? "user" : verdict === "key_budget" ? "key" : verdict,
        availableMicros: Number(detail),
        resetsAt: windowEnd(Number(more) as BudgetWindow, now),
      };
    case "other_body":
    case "running":
    case "billed":
      return { reason: "IDEMPOTENCY_CONFLICT", conflict: verdict, requestId: detail };
    default:
      throw new DrawbridgeError(
        "INTERNAL",
        `The store gave the verdict "${verdict}", which this version does not know.`,
      );
  }
}
