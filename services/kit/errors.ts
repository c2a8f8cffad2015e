// The typed error that crosses every boundary, and the one table that says what each reason means on the wire.
import { create, type DescMessage, type Message, type MessageShape } from "@bufbuild/protobuf";
import { durationFromMs, durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import { ErrorInfoSchema, RetryInfoSchema } from "#gen/google/rpc/error_details";

/** The part of `ErrorReason` names that follows the prefix, such as "NO_CAPACITY": what travels as ErrorInfo.reason. */
export type Reason = Exclude<keyof typeof ErrorReason, "UNSPECIFIED">;

interface ReasonRule {
  readonly code: Code;
  /** Whether the same call may succeed later, or elsewhere, without anybody changing anything. */
  readonly retryable: boolean;
}

/** Reason → Connect code and retry hint, as documented in error_reason.proto. */
const rules: Record<Reason, ReasonRule> = {
  INTERNAL: { code: Code.Internal, retryable: false },
  INVALID_ARGUMENT: { code: Code.InvalidArgument, retryable: false },
  UNAUTHENTICATED: { code: Code.Unauthenticated, retryable: false },
  PERMISSION_DENIED: { code: Code.PermissionDenied, retryable: false },
  NOT_FOUND: { code: Code.NotFound, retryable: false },
  ALREADY_EXISTS: { code: Code.AlreadyExists, retryable: false },
  REVISION_CONFLICT: { code: Code.Aborted, retryable: true },
  MODEL_NOT_FOUND: { code: Code.NotFound, retryable: false },
  NO_CAPACITY: { code: Code.Unavailable, retryable: true },
  NO_WORKER: { code: Code.Unavailable, retryable: true },
  CREDITS_EXHAUSTED: { code: Code.ResourceExhausted, retryable: false },
  BREAKER_OPEN: { code: Code.Unavailable, retryable: true },
  QUEUE_FULL: { code: Code.ResourceExhausted, retryable: true },
  DRAINING: { code: Code.Unavailable, retryable: true },
  AGENT_CRASHED: { code: Code.Unavailable, retryable: true },
  AGENT_ERROR: { code: Code.Unavailable, retryable: true },
  AGENT_UNAUTHENTICATED: { code: Code.Unavailable, retryable: true },
  AGENT_RATE_LIMITED: { code: Code.Unavailable, retryable: true },
  AGENT_USAGE_LIMIT: { code: Code.ResourceExhausted, retryable: true },
  DEADLINE_EXCEEDED: { code: Code.DeadlineExceeded, retryable: false },
  CANCELLED: { code: Code.Canceled, retryable: false },
  CONTEXT_LENGTH_EXCEEDED: { code: Code.InvalidArgument, retryable: false },
  STATE_UNAVAILABLE: { code: Code.Unavailable, retryable: true },
  LEASE_INVALID: { code: Code.FailedPrecondition, retryable: true },
  INSUFFICIENT_QUOTA: { code: Code.ResourceExhausted, retryable: false },
  REQUESTS_LIMITED: { code: Code.ResourceExhausted, retryable: true },
  TOKENS_LIMITED: { code: Code.ResourceExhausted, retryable: true },
  CONCURRENCY_LIMITED: { code: Code.ResourceExhausted, retryable: true },
  MODEL_NOT_ALLOWED: { code: Code.PermissionDenied, retryable: false },
  IDEMPOTENCY_CONFLICT: { code: Code.Aborted, retryable: false },
  NOT_SUPPORTED: { code: Code.Unimplemented, retryable: false },
  UNSUPPORTED_CONTENT: { code: Code.InvalidArgument, retryable: false },
  NOT_LEADER: { code: Code.Aborted, retryable: true },
  WORKER_UNREACHABLE: { code: Code.Unavailable, retryable: true },
  AGENT_PROTOCOL: { code: Code.Internal, retryable: true },
};

/** Connect code → HTTP status, as the Connect protocol maps them. */
const httpStatusByCode: Record<Code, number> = {
  [Code.Canceled]: 499,
  [Code.Unknown]: 500,
  [Code.InvalidArgument]: 400,
  [Code.DeadlineExceeded]: 504,
  [Code.NotFound]: 404,
  [Code.AlreadyExists]: 409,
  [Code.PermissionDenied]: 403,
  [Code.ResourceExhausted]: 429,
  [Code.FailedPrecondition]: 400,
  [Code.Aborted]: 409,
  [Code.OutOfRange]: 400,
  [Code.Unimplemented]: 501,
  [Code.Internal]: 500,
  [Code.Unavailable]: 503,
  [Code.DataLoss]: 500,
  [Code.Unauthenticated]: 401,
};

/** What ErrorInfo.domain says on our errors. */
export const errorDomain = "drawbridge";

export interface DrawbridgeErrorOptions {
  /** What went wrong underneath. Logged, never sent. */
  readonly cause?: unknown;
  /** When the same call may succeed. Sent as RetryInfo. */
  readonly retryAfterMs?: number;
  /** A message of the contract that travels with the error, such as PromptFailure. */
  readonly detail?: { readonly desc: DescMessage; readonly value: Message };
}

/** An error with a reason. Its message is for the user: it says what is wrong and what to do. */
export class DrawbridgeError extends Error {
  override readonly name = "DrawbridgeError";
  readonly reason: Reason;
  readonly retryAfterMs: number | undefined;
  readonly detail: DrawbridgeErrorOptions["detail"];

  constructor(reason: Reason, message: string, options: DrawbridgeErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.reason = reason;
    this.retryAfterMs = options.retryAfterMs;
    this.detail = options.detail;
  }

  get retryable(): boolean {
    return rules[this.reason].retryable;
  }

  /** The HTTP status of the error on plain routes of internal services. */
  get httpStatus(): number {
    return httpStatusByCode[rules[this.reason].code];
  }

  /** The enum value of the reason, for messages of the contract. */
  get reasonValue(): ErrorReason {
    return ErrorReason[this.reason];
  }
}

/** The reason's name for an enum value; INTERNAL for one that this version does not know. */
export function reasonOf(value: ErrorReason): Reason {
  const name = (ErrorReason as Record<number | string, unknown>)[value];
  const found = typeof name === "string" ? name : Object.entries(ErrorReason).find(([, v]) => v === value)?.[0];
  return isReason(found) ? found : "INTERNAL";
}

function isReason(name: unknown): name is Reason {
  return typeof name === "string" && name in rules;
}

/** Any thrown value as a DrawbridgeError; what is not ours becomes `fallback`, with the original as cause. */
export function asDrawbridgeError(error: unknown, fallback: Reason = "INTERNAL"): DrawbridgeError {
  if (error instanceof DrawbridgeError) return error;
  if (error instanceof ConnectError) return fromConnectError(error, fallback);
  if (error instanceof Error && error.name === "AbortError") {
    return new DrawbridgeError("CANCELLED", "The call was cancelled.", { cause: error });
  }
  const message = fallback === "INTERNAL" ? "Internal error." : error instanceof Error ? error.message : String(error);
  return new DrawbridgeError(fallback, message, { cause: error });
}

/** Domain → wire. The cause stays here. */
export function toConnectError(error: DrawbridgeError): ConnectError {
  const details: { desc: DescMessage; value: Message }[] = [
    { desc: ErrorInfoSchema, value: create(ErrorInfoSchema, { reason: error.reason, domain: errorDomain }) },
  ];
  if (error.retryAfterMs !== undefined) {
    const value = create(RetryInfoSchema, { retryDelay: durationFromMs(Math.max(0, Math.ceil(error.retryAfterMs))) });
    details.push({ desc: RetryInfoSchema, value });
  }
  if (error.detail) details.push(error.detail);
  const connectError = new ConnectError(error.message, rules[error.reason].code, undefined, details as never);
  connectError.cause = error;
  return connectError;
}

/** Codes that a peer sends without our ErrorInfo: the transport's own, a proxy's, or validation's. */
const reasonByCode: Partial<Record<Code, Reason>> = {
  [Code.Canceled]: "CANCELLED",
  [Code.InvalidArgument]: "INVALID_ARGUMENT",
  [Code.DeadlineExceeded]: "DEADLINE_EXCEEDED",
  [Code.NotFound]: "NOT_FOUND",
  [Code.AlreadyExists]: "ALREADY_EXISTS",
  [Code.PermissionDenied]: "PERMISSION_DENIED",
  [Code.Unauthenticated]: "UNAUTHENTICATED",
  [Code.Unimplemented]: "NOT_SUPPORTED",
};

/** Wire → domain. `fallback` is for a failure of the call itself, such as a refused connection. */
export function fromConnectError(error: ConnectError, fallback: Reason = "INTERNAL"): DrawbridgeError {
  if (error.cause instanceof DrawbridgeError) return error.cause;
  const info = error.findDetails(ErrorInfoSchema).find((detail) => detail.domain === errorDomain);
  const reason = isReason(info?.reason) ? info.reason : (reasonByCode[error.code] ?? fallback);
  const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return new DrawbridgeError(reason, error.rawMessage, {
    cause: error,
    ...(delay ? { retryAfterMs: durationMs(delay) } : {}),
  });
}

/** The contract message that travelled with an error, wherever the error came from. */
export function errorDetail<Desc extends DescMessage>(error: unknown, desc: Desc): MessageShape<Desc> | undefined {
  if (error instanceof ConnectError) return error.findDetails(desc)[0];
  if (error instanceof DrawbridgeError) {
    if (error.detail?.desc.typeName === desc.typeName) return error.detail.value as MessageShape<Desc>;
    return error.cause instanceof ConnectError ? error.cause.findDetails(desc)[0] : undefined;
  }
  return undefined;
}
