// Why a request was not let in, in words for the person who sent it.
import { DrawbridgeError } from "../../kit/errors.ts";
import type { AdmitRefusal, LimitScope, LimitStatus } from "../../state/state.ts";

/** A refusal of the ledger. */
export class AdmissionError extends DrawbridgeError {
  readonly refusal: AdmitRefusal;
  /** Known where the user is. */
  readonly limits: LimitStatus | undefined;

  constructor(refusal: AdmitRefusal, limits: LimitStatus | undefined, model: string) {
    const retryAfterMs = "retryAfterMs" in refusal ? refusal.retryAfterMs : undefined;
    super(refusal.reason, refusalText(refusal, model), retryAfterMs === undefined ? {} : { retryAfterMs });
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

function refusalText(refusal: AdmitRefusal, model: string): string {
  switch (refusal.reason) {
    case "UNAUTHENTICATED":
      return "Incorrect API key provided.";
    case "PERMISSION_DENIED":
      return userDisabled;
    case "MODEL_NOT_ALLOWED":
      return `This API key may not use the model "${model}".`;
    case "REQUESTS_LIMITED":
      return `Rate limit reached${whoseText(refusal.scope)}: ${refusal.limit} requests per minute. ${whenText(refusal.retryAfterMs)}`;
    case "TOKENS_LIMITED":
      return `Rate limit reached${whoseText(refusal.scope)}: ${refusal.limit} tokens per minute. ${whenText(refusal.retryAfterMs)}`;
    case "CONCURRENCY_LIMITED":
      return `Rate limit reached${whoseText(refusal.scope)}: ${refusal.limit} requests at the same time. Try again when one of yours has ended.`;
    case "INSUFFICIENT_QUOTA":
      return `${quotaText(refusal.scope)}, or the request may cost more than what is left of it.${resetText(refusal.resetsAt)}`;
    case "IDEMPOTENCY_CONFLICT":
      return conflictText(refusal.conflict);
    default:
      return refusal satisfies never;
  }
}

export const userDisabled = "This user is disabled. Ask whoever gave you the key.";

function whoseText(scope: LimitScope): string {
  return scope === "key" ? " for this API key" : "";
}

function quotaText(scope: "user" | "user_budget" | "key"): string {
  switch (scope) {
    case "user":
      return "You exceeded your current quota";
    case "user_budget":
      return "You have spent your budget";
    case "key":
      return "This API key has spent its budget";
    default:
      return scope satisfies never;
  }
}

function resetText(resetsAt: number | undefined): string {
  return resetsAt === undefined ? "" : ` The budget begins anew at ${new Date(resetsAt).toISOString()}.`;
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
