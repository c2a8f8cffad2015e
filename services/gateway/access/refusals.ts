// Why a request was not let in, in words for the person who sent it.
import type { Tier } from "#gen/drawbridge/v1/access_service";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { AdmitRefusal, LimitStatus } from "../../state/state.ts";

/** A refusal of the ledger. */
export class AdmissionError extends DrawbridgeError {
  readonly refusal: AdmitRefusal;
  /** Known where the user is. */
  readonly limits: LimitStatus | undefined;

  constructor(refusal: AdmitRefusal, limits: LimitStatus | undefined, model: string, tier: Tier) {
    const retryAfterMs = "retryAfterMs" in refusal ? refusal.retryAfterMs : undefined;
    super(refusal.reason, refusalText(refusal, model, tier), retryAfterMs === undefined ? {} : { retryAfterMs });
    this.refusal = refusal;
    this.limits = limits;
  }

  /** Whether the same request may be let in later, with nobody changing anything. */
  override get retryable(): boolean {
    switch (this.refusal.reason) {
      case "REQUESTS_LIMITED":
      case "TOKENS_LIMITED":
        return this.refusal.retryAfterMs !== undefined;
      case "IDEMPOTENCY_CONFLICT":
        return this.refusal.conflict === "running";
      default:
        return super.retryable;
    }
  }
}

function refusalText(refusal: AdmitRefusal, model: string, tier: Tier): string {
  switch (refusal.reason) {
    case "UNAUTHENTICATED":
      return "Incorrect API key provided.";
    case "MODEL_NOT_ALLOWED":
      return `This API key may not use the model "${model}".`;
    case "REQUESTS_LIMITED":
      return `Rate limit reached: ${tier.requestsPerMinute} requests per minute. ${whenText(refusal.retryAfterMs)}`;
    case "TOKENS_LIMITED":
      return `Rate limit reached: ${tier.tokensPerMinute} tokens per minute. ${whenText(refusal.retryAfterMs)}`;
    case "CONCURRENCY_LIMITED":
      return `Rate limit reached: ${tier.concurrency} requests at the same time. Try again when one of yours has ended.`;
    case "INSUFFICIENT_QUOTA":
      return refusal.scope === "key"
        ? "This API key has spent its budget, or the request may cost more than what is left of it."
        : "You exceeded your current quota, or the request may cost more than what is left of it.";
    case "IDEMPOTENCY_CONFLICT":
      return conflictText(refusal.conflict);
    default:
      return refusal satisfies never;
  }
}

function whenText(retryAfterMs: number | undefined): string {
  if (retryAfterMs === undefined) return "This request asks for more than that at once; it will never fit.";
  return `Try again in ${(retryAfterMs / 1_000).toFixed(3)}s.`;
}

function conflictText(conflict: "other_body" | "running" | "billed"): string {
  switch (conflict) {
    case "other_body":
      return "This Idempotency-Key was used with another body. Use a new key for a new request.";
    case "running":
      return "A request with this Idempotency-Key is running. Wait for its answer.";
    case "billed":
      return "A request with this Idempotency-Key was answered and billed; its answer is not kept any more.";
    default:
      return conflict satisfies never;
  }
}
