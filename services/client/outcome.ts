// What became of an attempt, as far as the client can know it.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { Lease } from "#gen/drawbridge/v1/scheduler_service";
import { End, type Outcome, OutcomeSchema, UsageSource } from "#gen/drawbridge/v1/usage";
import { PromptFailureSchema } from "#gen/drawbridge/v1/worker_service";
import { asDrawbridgeError, DrawbridgeError, errorDetail } from "../kit/errors.ts";

/** What the client saw of an attempt. */
export interface Observed {
  readonly content: boolean;
  readonly inputTokens: bigint;
  /** Output tokens by the worker's meter, as of the last batch. */
  readonly outputTokens: bigint;
}

/** The worker's own outcome that a failed call carries; undefined: it took no prompt, or could not tell any more. */
export function outcomeOf(error: unknown): Outcome | undefined {
  return errorDetail(error, PromptFailureSchema)?.outcome;
}

/** The outcome of an attempt whose worker did not tell: what the client saw, counted by the worker's meter. */
export function observedOutcome(
  lease: Lease,
  observed: Observed,
  error: DrawbridgeError,
  cancelled: boolean,
  now: number,
): Outcome {
  return create(OutcomeSchema, {
    attemptId: lease.attemptId,
    requestId: lease.requestId,
    accountId: lease.accountId,
    workerId: lease.workerId,
    end: cancelled ? End.CANCELLED : endOf(error, observed.content),
    content: observed.content,
    reason: error.reasonValue,
    ...(observed.content
      ? {
          usage: {
            inputTokens: observed.inputTokens,
            outputTokens: observed.outputTokens,
            source: UsageSource.ESTIMATED,
          },
        }
      : {}),
    endedAt: timestampFromMs(now),
  });
}

function endOf(error: DrawbridgeError, content: boolean): End {
  if (!content) return End.FAILED_BEFORE_CONTENT;
  return error.reason === "DEADLINE_EXCEEDED" ? End.TIMEOUT : End.FAILED_AFTER_CONTENT;
}

/** The error for the caller, carrying the outcome that was settled on. */
export function withOutcome(error: unknown, outcome: Outcome): DrawbridgeError {
  const { reason, message, retryAfterMs } = asDrawbridgeError(error);
  return new DrawbridgeError(reason, message, {
    cause: error,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    detail: { desc: PromptFailureSchema, value: create(PromptFailureSchema, { outcome }) },
  });
}
