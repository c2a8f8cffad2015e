// The one decision that lets a request in: the script decides, here its arguments and what its verdict means.
import { PriceSchema } from "#gen/drawbridge/v1/access_service";
import { DrawbridgeError } from "../../kit/errors.ts";
import { type Levels, limitStatus, waitMs } from "../limits.ts";
import { encode } from "../records.ts";
import type { AdmitRefusal, AdmitRequest, AdmitResult } from "../state.ts";
import type { Argument } from "./connection.ts";
import type { Context } from "./context.ts";
import { texts } from "./replies.ts";

export async function admit({ connection, keys }: Context, request: AdmitRequest): Promise<AdmitResult> {
  const { userId, requestId } = request;
  const admitKeys = [
    keys.user(userId),
    keys.key(userId, request.keyId),
    keys.holds(userId),
    keys.hold(userId, requestId),
    keys.entries(userId),
    keys.idempotency(userId, request.idempotency?.key ?? ""),
  ];
  const [verdict, requests, tokens, at, detail] = texts(
    await connection.script("admit", admitKeys, admitArguments(request)),
  );
  if (requests === undefined) return { admitted: false, refusal: { reason: "UNAUTHENTICATED" }, limits: undefined };
  const levels: Levels = { requests: Number(requests), tokens: Number(tokens), at: Number(at) };
  const limits = limitStatus(levels, request.tier);
  if (verdict === "admitted") return { admitted: true, limits };
  if (verdict === "settled") {
    throw new DrawbridgeError("ALREADY_EXISTS", `Request "${requestId}" is settled already.`);
  }
  return { admitted: false, refusal: refusalOf(verdict, detail, levels, request), limits };
}

function admitArguments(request: AdmitRequest): Argument[] {
  const { tier, idempotency } = request;
  return [
    request.requestId,
    request.now,
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
  ];
}

function refusalOf(
  verdict: string | undefined,
  detail: string | undefined,
  levels: Levels,
  { tier, tokens }: AdmitRequest,
): AdmitRefusal {
  switch (verdict) {
    case "unauthenticated":
      return { reason: "UNAUTHENTICATED" };
    case "model_not_allowed":
      return { reason: "MODEL_NOT_ALLOWED" };
    case "requests_limited":
      return { reason: "REQUESTS_LIMITED", retryAfterMs: waitMs(levels.requests, 1, tier.requestsPerMinute) };
    case "tokens_limited":
      return { reason: "TOKENS_LIMITED", retryAfterMs: waitMs(levels.tokens, tokens, tier.tokensPerMinute) };
    case "concurrency_limited":
      return { reason: "CONCURRENCY_LIMITED" };
    case "user_quota":
    case "key_budget":
      return {
        reason: "INSUFFICIENT_QUOTA",
        scope: verdict === "user_quota" ? "user" : "key",
        availableMicros: Number(detail),
      };
    case "other_body":
    case "running":
    case "billed":
      return { reason: "IDEMPOTENCY_CONFLICT", conflict: verdict, requestId: detail ?? "" };
    default:
      throw new DrawbridgeError(
        "INTERNAL",
        `The store gave the verdict "${verdict}", which this version does not know.`,
      );
  }
}
