// How an attempt ended, in the words of the contract. Pure.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { StopReason } from "#gen/drawbridge/v1/prompt";
import { End, type Outcome, OutcomeSchema, type Usage } from "#gen/drawbridge/v1/usage";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { TurnResult } from "./turn.ts";
import { type Metered, usageOf, usageOfCutTurn } from "./usage.ts";

/** Who ended an attempt from outside. */
export type StopCause =
  /** CancelPrompt was called. */
  | "cancelled"
  /** The call was given up by its caller. */
  | "caller_left"
  /** The call's deadline, or the worker's own for a whole prompt, passed. */
  | "deadline"
  /** The worker stops. */
  | "draining";

/** Where an attempt stands when it ends. */
export interface AttemptFacts {
  readonly requestId: string;
  readonly attemptId: string;
  readonly accountId: string;
  readonly workerId: string;
  readonly startedAtMs: number;
  readonly firstContentAtMs: number | undefined;
  readonly endedAtMs: number;
  readonly metered: Metered;
}

/** What the caller gets: an end, or an error. */
export type Verdict =
  | { readonly kind: "finished"; readonly stopReason: StopReason; readonly end: End }
  | { readonly kind: "failed"; readonly error: DrawbridgeError; readonly end: End };

export function verdictOf(result: TurnResult, cause: StopCause | undefined, content: boolean): Verdict {
  const { end } = result;
  if (end.kind === "stopped") return stopVerdict(cause ?? "caller_left", content);
  if (end.kind === "cut") {
    const stopReason = end.cut === "max_tokens" ? StopReason.MAX_TOKENS : StopReason.STOP_SEQUENCE;
    return { kind: "finished", stopReason, end: End.FINISHED };
  }
  if (end.kind === "failed") return failureVerdict(end.error, content);
  return finishVerdict(end.stopReason, content);
}

/** An attempt that was stopped from outside, running or waiting. */
export function stopVerdict(cause: StopCause, content: boolean): Verdict {
  if (cause === "deadline") {
    return failureVerdict(
      new DrawbridgeError("DEADLINE_EXCEEDED", "The prompt took longer than its deadline allows."),
      content,
    );
  }
  if (cause === "draining") {
    return failureVerdict(
      new DrawbridgeError("DRAINING", "The worker stopped before the prompt was finished."),
      content,
    );
  }
  return { kind: "finished", stopReason: StopReason.CANCELLED, end: End.CANCELLED };
}

export function failureVerdict(error: DrawbridgeError, content: boolean): Verdict {
  if (!content) return { kind: "failed", error, end: End.FAILED_BEFORE_CONTENT };
  const end = error.reason === "DEADLINE_EXCEEDED" ? End.TIMEOUT : End.FAILED_AFTER_CONTENT;
  return { kind: "failed", error, end };
}

const stopReasons: Readonly<Record<string, StopReason>> = {
  end_turn: StopReason.END_TURN,
  max_tokens: StopReason.MAX_TOKENS,
  max_turn_requests: StopReason.MAX_TOKENS,
  refusal: StopReason.REFUSAL,
};

/** The agent's word for the end. One that we do not know is an end of the turn all the same. */
function finishVerdict(stopReason: string, content: boolean): Verdict {
  if (stopReason !== "cancelled") {
    return { kind: "finished", stopReason: stopReasons[stopReason] ?? StopReason.END_TURN, end: End.FINISHED };
  }
  return failureVerdict(
    new DrawbridgeError("AGENT_ERROR", "The agent cancelled its turn without being asked to."),
    content,
  );
}

/** What was used. Absent where nothing is known to have been: no process took the prompt, or it failed before it said or reported anything. */
function usageFor(result: TurnResult | undefined, verdict: Verdict, facts: AttemptFacts): Usage | undefined {
  if (!result) return undefined;
  if (result.end.kind === "finished") return usageOf(result, facts.metered);
  if (facts.firstContentAtMs === undefined && verdict.kind === "failed") return undefined;
  return usageOfCutTurn(result, facts.metered);
}

export function outcomeOf(facts: AttemptFacts, verdict: Verdict, result: TurnResult | undefined): Outcome {
  const usage = usageFor(result, verdict, facts);
  const error = verdict.kind === "failed" ? verdict.error : undefined;
  const retryAfterMs = error?.retryAfterMs;
  return create(OutcomeSchema, {
    attemptId: facts.attemptId,
    requestId: facts.requestId,
    accountId: facts.accountId,
    workerId: facts.workerId,
    end: verdict.end,
    content: facts.firstContentAtMs !== undefined,
    startedAt: timestampFromMs(facts.startedAtMs),
    endedAt: timestampFromMs(facts.endedAtMs),
    ...(usage ? { usage } : {}),
    ...(result?.millicredits === undefined ? {} : { millicredits: BigInt(result.millicredits) }),
    ...(error ? { reason: error.reasonValue } : {}),
    ...(facts.firstContentAtMs === undefined ? {} : { firstContentAt: timestampFromMs(facts.firstContentAtMs) }),
    ...(retryAfterMs === undefined ? {} : { retryAt: timestampFromMs(facts.endedAtMs + retryAfterMs) }),
  });
}
