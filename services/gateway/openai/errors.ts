// One table: why a request failed → what an OpenAI SDK is told. The contract is the error section of docs/api.md.
import { asDrawbridgeError, DrawbridgeError, type Reason } from "../../kit/errors.ts";

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
  /** Whether an SDK should try again by itself. Default: as it does for the status. */
  readonly retry?: "never" | "as the error says";
}

const invalidRequest = "invalid_request_error";
const overloaded: Rule = { status: 503, type: "service_unavailable_error", code: "server_is_overloaded" };
const rateLimited = (type: "requests" | "tokens"): Rule => ({
  status: 429,
  type,
  code: "rate_limit_exceeded",
  retry: "as the error says",
});
const agentFailed: Rule = {
  status: 502,
  type: "server_error",
  code: "upstream_error",
  message: "The agent failed to answer. Try again.",
};
const internal: Rule = {
  status: 500,
  type: "server_error",
  code: "internal_error",
  message: "The server had an error while processing your request.",
};

const rules: Record<Reason, Rule> = {
  INVALID_ARGUMENT: { status: 400, type: invalidRequest, code: null },
  NOT_SUPPORTED: { status: 400, type: invalidRequest, code: "unsupported_parameter" },
  UNSUPPORTED_CONTENT: { status: 400, type: invalidRequest, code: "unsupported_content" },
  CONTEXT_LENGTH_EXCEEDED: { status: 400, type: invalidRequest, code: "context_length_exceeded" },
  UNAUTHENTICATED: { status: 401, type: invalidRequest, code: "invalid_api_key" },
  PERMISSION_DENIED: { status: 403, type: "permission_error", code: "permission_denied" },
  MODEL_NOT_ALLOWED: { status: 403, type: "permission_error", code: "model_not_allowed" },
  MODEL_NOT_FOUND: { status: 404, type: invalidRequest, code: "model_not_found" },
  IDEMPOTENCY_CONFLICT: {
    status: 409,
    type: invalidRequest,
    code: "idempotency_conflict",
    retry: "as the error says",
  },
  REQUESTS_LIMITED: rateLimited("requests"),
  TOKENS_LIMITED: rateLimited("tokens"),
  CONCURRENCY_LIMITED: rateLimited("requests"),
  INSUFFICIENT_QUOTA: { status: 429, type: "insufficient_quota", code: "insufficient_quota", retry: "never" },
  NO_CAPACITY: overloaded,
  NO_WORKER: overloaded,
  QUEUE_FULL: overloaded,
  DRAINING: overloaded,
  BREAKER_OPEN: overloaded,
  STATE_UNAVAILABLE: { ...overloaded, message: "The server cannot take requests now. Try again." },
  AGENT_RATE_LIMITED: overloaded,
  CREDITS_EXHAUSTED: { ...overloaded, retry: "never" },
  AGENT_USAGE_LIMIT: { ...overloaded, retry: "never" },
  CANCELLED: { ...overloaded, message: "The answer was interrupted. Try again." },
  DEADLINE_EXCEEDED: {
    status: 504,
    type: "server_error",
    code: "timeout",
    message: "The answer was not complete within the time allowed.",
  },
  AGENT_CRASHED: agentFailed,
  AGENT_ERROR: agentFailed,
  AGENT_PROTOCOL: agentFailed,
  AGENT_UNAUTHENTICATED: agentFailed,
  WORKER_UNREACHABLE: agentFailed,
  LEASE_INVALID: agentFailed,
  // A worker's, of its account: requests for what is not there have reasons of their own.
  NOT_FOUND: agentFailed,
  INTERNAL: internal,
  ALREADY_EXISTS: internal,
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

export function errorAnswer(error: DrawbridgeError, context: ErrorContext): ErrorAnswer {
  const rule = rules[error.reason];
  return {
    status: rule.status,
    headers: retryHeaders(error, rule, context.retryAfterMs),
    body: errorBody(rule.message ?? error.message, rule.type, context.param ?? null, context.code ?? rule.code),
  };
}

/** SDKs ignore a wait above this and try again in under a second, so a longer one also says not to. */
const sdkWaitMaxMs = 60_000;

function retryHeaders(error: DrawbridgeError, rule: Rule, defaultWaitMs: number): Record<string, string> {
  const headers: Record<string, string> = {};
  const hopeless = rule.retry === "never" || (rule.retry === "as the error says" && !error.retryable);
  const waitMs = error.retryAfterMs ?? defaultWaitMs;
  // Whoever is told to come back, or met a limit, is told when.
  const told = rule.status === 503 || rule.code === "rate_limit_exceeded" || (rule.status === 409 && !hopeless);
  if (told) {
    headers["retry-after-ms"] = String(Math.ceil(waitMs));
    headers["retry-after"] = String(Math.max(1, Math.ceil(waitMs / 1_000)));
  }
  if (hopeless || (told && waitMs > sdkWaitMaxMs)) headers["x-should-retry"] = "false";
  return headers;
}

export function errorBody(message: string, type: string, param: string | null, code: string | null): ErrorBody {
  return { error: { message, type, param, code } };
}

/** Reasons that are about a caller's credentials or request where the gateway gives them, and about our own parts where the engine does. */
const ownFaults: ReadonlySet<Reason> = new Set(["UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_SUPPORTED"]);

/** A failure of a call to the engine. What our own parts refuse each other is no fault of the client's. */
export function engineFailure(error: unknown): DrawbridgeError {
  const failure = asDrawbridgeError(error);
  if (!ownFaults.has(failure.reason)) return failure;
  const { message, detail } = failure;
  return new DrawbridgeError("INTERNAL", `The engine refused a call of the gateway: ${message}`, {
    cause: error,
    ...(detail ? { detail } : {}),
  });
}
