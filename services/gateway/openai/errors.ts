// One table: why a request failed → what an OpenAI SDK is told. The contract is the error section of docs/api.md.
import type { DrawbridgeError, Reason } from "../../kit/errors.ts";

export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string | null;
  };
}

export interface ErrorAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: ErrorBody;
}

interface Rule {
  readonly status: number;
  readonly type: string;
  readonly code: string | null;
  /** Said instead of the error's own message, which speaks of insides. */
  readonly message?: string;
  /** false: the SDKs' own retries would not help. */
  readonly retry?: false;
}

const invalidRequest = "invalid_request_error";
const invalidKey: Rule = { status: 401, type: invalidRequest, code: "invalid_api_key" };
const overloaded: Rule = { status: 503, type: "service_unavailable_error", code: "server_is_overloaded" };
const rateLimited = (type: "requests" | "tokens"): Rule => ({ status: 429, type, code: "rate_limit_exceeded" });
const upstreamFailed: Rule = {
  status: 502,
  type: "server_error",
  code: "upstream_error",
  message: "The agent failed on every attempt. Try again.",
};
const internal: Rule = {
  status: 500,
  type: "server_error",
  code: "internal_error",
  message: "The server had an error while processing your request.",
};

const rules: Record<Reason, Rule> = {
  INTERNAL: internal,
  INVALID_ARGUMENT: { status: 400, type: invalidRequest, code: null },
  UNSUPPORTED_CONTENT: { status: 400, type: invalidRequest, code: "unsupported_content" },
  CONTEXT_LENGTH_EXCEEDED: { status: 400, type: invalidRequest, code: "context_length_exceeded" },
  NOT_SUPPORTED: { status: 400, type: invalidRequest, code: "unsupported_parameter" },
  UNAUTHENTICATED: invalidKey,
  PERMISSION_DENIED: { status: 403, type: "permission_error", code: "permission_denied" },
  MODEL_NOT_ALLOWED: { status: 403, type: "permission_error", code: "model_not_allowed" },
  MODEL_NOT_FOUND: { status: 404, type: invalidRequest, code: "model_not_found" },
  NOT_FOUND: { status: 404, type: invalidRequest, code: "not_found" },
  ALREADY_EXISTS: { status: 409, type: invalidRequest, code: "already_exists" },
  IDEMPOTENCY_CONFLICT: { status: 409, type: invalidRequest, code: "idempotency_conflict", retry: false },
  REQUESTS_LIMITED: rateLimited("requests"),
  TOKENS_LIMITED: rateLimited("tokens"),
  CONCURRENCY_LIMITED: rateLimited("requests"),
  INSUFFICIENT_QUOTA: { status: 429, type: "insufficient_quota", code: "insufficient_quota", retry: false },
  NO_CAPACITY: overloaded,
  NO_WORKER: overloaded,
  QUEUE_FULL: overloaded,
  DRAINING: overloaded,
  BREAKER_OPEN: overloaded,
  STATE_UNAVAILABLE: overloaded,
  CREDITS_EXHAUSTED: { ...overloaded, retry: false },
  DEADLINE_EXCEEDED: { status: 504, type: "server_error", code: "timeout" },
  AGENT_CRASHED: upstreamFailed,
  AGENT_ERROR: upstreamFailed,
  AGENT_PROTOCOL: upstreamFailed,
  AGENT_UNAUTHENTICATED: upstreamFailed,
  AGENT_RATE_LIMITED: overloaded,
  AGENT_USAGE_LIMIT: { ...overloaded, retry: false },
  WORKER_UNREACHABLE: upstreamFailed,
  LEASE_INVALID: upstreamFailed,
  CANCELLED: { status: 499, type: invalidRequest, code: "client_closed_request" },
  REVISION_CONFLICT: internal,
  NOT_LEADER: internal,
};

export interface ErrorContext {
  /** The field that is wrong. */
  readonly param?: string | undefined;
  /** A code more specific than the table's. */
  readonly code?: string | undefined;
  /** What an answer that may be tried again says about when, if the error does not, in ms. */
  readonly retryAfterMs: number;
}

/** SDKs ignore a wait above this and try again in under a second, so a longer one also says not to. */
const sdkWaitMaxMs = 60_000;

export function errorAnswer(error: DrawbridgeError, context: ErrorContext): ErrorAnswer {
  const rule = rules[error.reason];
  const headers: Record<string, string> = {};
  const waits = rule.status === 503 || (rule.status === 429 && rule.retry !== false);
  const waitMs = error.retryAfterMs ?? context.retryAfterMs;
  if (waits) {
    headers["retry-after-ms"] = String(Math.ceil(waitMs));
    headers["retry-after"] = String(Math.max(1, Math.ceil(waitMs / 1_000)));
  }
  if (rule.retry === false || (waits && waitMs > sdkWaitMaxMs)) headers["x-should-retry"] = "false";
  return {
    status: rule.status,
    headers,
    body: errorBody(rule.message ?? error.message, rule.type, context.param ?? null, context.code ?? rule.code),
  };
}

export function errorBody(message: string, type: string, param: string | null, code: string | null): ErrorBody {
  return { error: { message, type, param, code } };
}
