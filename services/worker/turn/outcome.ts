// How an attempt ended, in the words of the contract. Pure.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { StopReason } from "#gen/drawbridge/v1/prompt";
import { End, type Outcome, OutcomeSchema, type Usage } from "#gen/drawbridge/v1/usage";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { Execution } from "./attempt.ts";
import type { TurnResult } from "./turn.ts";
import type { Cut } from "./turn-output.ts";
import { lessBilled, type Metered, usageOf, usageOfCutTurn } from "./usage.ts";

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
  if (end.kind === "calls") return { kind: "finished", stopReason: StopReason.TOOL_CALLS, end: End.FINISHED };
  if (end.kind === "cut") return cutVerdict(end.cut, content);
  if (end.kind === "failed") return failureVerdict(end.error, content);
  return finishVerdict(end.stopReason, content);
}

function cutVerdict(cut: Cut, content: boolean): Verdict {
  if (cut === "too_long") {
    const error = new DrawbridgeError("AGENT_ERROR", "The answer is too long to be looked at for its form.");
    return failureVerdict(error, content);
  }
  const stopReason = cut === "max_tokens" ? StopReason.MAX_TOKENS : StopReason.STOP_SEQUENCE;
  return { kind: "finished", stopReason, end: End.FINISHED };
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
function usageFor({ results, billed, verdict }: Execution, facts: AttemptFacts): Usage | undefined {
  const last = results.at(-1);
  if (!last) return undefined;
  if (last.end.kind === "finished") return lessBilled(usageOf(results, facts.metered), billed);
  if (facts.firstContentAtMs === undefined && verdict.kind === "failed") return undefined;
  return lessBilled(usageOfCutTurn(results, facts.metered), billed);
}

/** What the turns cost together, as far as the agent told. */
function millicreditsOf(results: readonly TurnResult[]): number | undefined {
  const told = results.flatMap(({ millicredits }) => (millicredits === undefined ? [] : [millicredits]));
  return told.length === 0 ? undefined : told.reduce((sum, each) => sum + each, 0);
}

export function outcomeOf(facts: AttemptFacts, execution: Execution): Outcome {
  const { verdict, results, conversation } = execution;
  const usage = usageFor(execution, facts);
  const millicredits = millicreditsOf(results);
  const error = verdict.kind === "failed" ? verdict.error : undefined;
  const retryAfterMs = error?.retryAfterMs;
  return create(OutcomeSchema, {
    attemptId: facts.attemptId,
    requestId: facts.requestId,
    accountId: facts.accountId,
    workerId: facts.workerId,
    end: verdict.end,
    content: facts.firstContentAtMs !== undefined,
    conversation,
    startedAt: timestampFromMs(facts.startedAtMs),
    endedAt: timestampFromMs(facts.endedAtMs),
    ...(usage ? { usage } : {}),
    ...(millicredits === undefined ? {} : { millicredits: BigInt(millicredits) }),
    ...(error ? { reason: error.reasonValue } : {}),
    ...(facts.firstContentAtMs === undefined ? {} : { firstContentAt: timestampFromMs(facts.firstContentAtMs) }),
    ...(retryAfterMs === undefined ? {} : { retryAt: timestampFromMs(facts.endedAtMs + retryAfterMs) }),
  });
}
