// One attempt: a prompt from its admission to its one outcome, which goes to the caller and to the outbox. It runs by itself, whether its
// caller reads, lags or leaves.
import { create } from "@bufbuild/protobuf";
import { FinishedSchema, type PromptEvent, StopReason } from "#gen/drawbridge/v1/prompt";
import type { Outcome } from "#gen/drawbridge/v1/usage";
import { PromptFailureSchema, type PromptRequest } from "#gen/drawbridge/v1/worker_service";
import type { Clock } from "../../kit/clock.ts";
import { type AnswerKey, followAnswer } from "../../kit/conversation-key.ts";
import { asDrawbridgeError, DrawbridgeError } from "../../kit/errors.ts";
import type { Log } from "../../kit/log.ts";
import type { WorkerSettings } from "../config.ts";
import type { Lane } from "../conversations/lane.ts";
import type { ParkedTurn } from "../conversations/parked-turns.ts";
import { type AnswerFormat, answerFormat } from "../formats/answer-format.ts";
import type { SchemaValidator } from "../formats/schema-validator.ts";
import type { Ticket } from "../pool/pool.ts";
import type { Outbox } from "../presence/outbox.ts";
import type { Agent } from "../protocol/agent.ts";
import type { ToolResult } from "../tools/tool-desk.ts";
import type { ToolRules } from "../tools/tool-rules.ts";
import type { ToolServer } from "../tools/tool-server.ts";
import { type Batcher, createBatcher } from "./batcher.ts";
import { carryOut } from "./execution.ts";
import { failureVerdict, outcomeOf, type StopCause, stopVerdict, type Verdict } from "./outcome.ts";
import type { TurnResult } from "./turn.ts";
import { createTurnOutput, type TurnOutput } from "./turn-output.ts";
import { type Metered, nothingMetered } from "./usage.ts";

/** What all attempts share. */
export interface AttemptContext {
  readonly workerId: string;
  readonly outbox: Outbox;
  readonly toolServer: ToolServer;
  readonly validator: SchemaValidator;
  readonly config: WorkerSettings;
  readonly clock: Clock;
  readonly log: Log;
}

/** How a prompt comes to a process. */
export type Entrance =
  | { readonly kind: "queued"; readonly ticket: Ticket }
  /** A turn that waited for it. */
  | { readonly kind: "resumed"; readonly parked: ParkedTurn; readonly results: ReadonlyMap<string, ToolResult> };

export interface StartOptions extends AttemptContext {
  readonly request: PromptRequest;
  readonly lane: Lane;
  /** By the agent's name. */
  readonly model: string;
  readonly rules: ToolRules;
  /** The key of the conversation that it continues; empty: none. */
  readonly conversation: string;
  readonly entrance: Entrance;
  readonly totalMs: number;
  /** Whether a session or turn may be kept for a later request. */
  readonly keeps: () => boolean;
}

/** A prompt that was admitted. */
export interface Attempt {
  /** The next events; undefined: it is over. Throws how it failed. One call at a time. */
  take(): Promise<PromptEvent[] | undefined>;
  /** Output tokens so far. */
  readonly outputTokens: number;
  /** Ends it, if it is not over. */
  stop(cause: StopCause): void;
}

/** What the parts of a running attempt share. */
export interface Running extends StartOptions {
  readonly stopped: AbortSignal;
  readonly batcher: Batcher;
  readonly output: TurnOutput;
  readonly format: AnswerFormat | undefined;
  /** Absent: the answer's conversation is not kept. */
  readonly follower: AnswerKey | undefined;
  /** The agent that works on it now, whose output may be left unread. */
  agent: Agent | undefined;
  /** Tokens that were sent to it. */
  inputTokens: number;
}

/** How an attempt was carried out. */
export interface Execution {
  readonly verdict: Verdict;
  /** Of the turns, in order. Empty: no agent got the prompt. */
  readonly results: readonly TurnResult[];
  /** What earlier answers of the last turn were billed. */
  readonly billed: Metered;
  /** The conversation that is kept. Empty: none. */
  readonly conversation: string;
}

export function startAttempt(options: StartOptions): { attempt: Attempt; over: Promise<void> } {
  const { clock, request, entrance } = options;
  const stopped = new AbortController();
  const startedAtMs = clock.now();
  let firstContentAtMs: number | undefined;
  const running = createRunning(options, stopped.signal, () => void (firstContentAtMs = clock.now()));
  const { output, batcher } = running;
  const stop = (cause: StopCause) => {
    if (stopped.signal.aborted) return;
    stopped.abort(cause);
    if (entrance.kind === "queued") entrance.ticket.leave(cause);
  };
  const deadline = clock.after(options.totalMs, () => stop("deadline"));
  const over = execute(running).then((execution) => {
    deadline[Symbol.dispose]();
    const { inputTokens } = running;
    const { tokens: outputTokens, reasoningTokens } = output;
    const facts = {
      requestId: request.requestId,
      attemptId: request.attemptId,
      accountId: request.accountId,
      workerId: options.workerId,
      startedAtMs,
      firstContentAtMs,
      endedAtMs: clock.now(),
      metered: { inputTokens, outputTokens, reasoningTokens },
    };
    conclude(running, execution.verdict, outcomeOf(facts, execution));
  });
  const attempt: Attempt = {
    take: () => batcher.take(),
    get outputTokens() {
      return output.tokens;
    },
    stop,
  };
  return { attempt, over };
}

function createRunning(options: StartOptions, stopped: AbortSignal, onFirst: () => void): Running {
  const { config, request, lane } = options;
  const prompt = request.prompt;
  const format = answerFormat(prompt?.responseFormat, options.validator);
  const follower = prompt && (lane.held.enabled || options.rules.tools.length > 0) ? followAnswer(prompt) : undefined;
  const batcher = createBatcher({
    charsMax: config.buffer_limit,
    onPressure(high) {
      // After a stop the agent is read in any case: it may have to be rid of its output before it hears the cancel.
      if (high && !stopped.aborted) running.agent?.connection.pause();
      else running.agent?.connection.resume();
    },
  });
  const output = createTurnOutput({
    tokensMax: Number(prompt?.outputTokensMax ?? 0n) || config.output_tokens_max,
    stop: prompt?.stop ?? [],
    batcher,
    onFirst,
    ...(format ? { collectMax: config.format_limit } : {}),
    ...(follower ? { onText: (text: string) => follower.text(text) } : {}),
  });
  const running: Running = {
    ...options,
    stopped,
    batcher,
    output,
    format,
    follower,
    agent: undefined,
    inputTokens: Number(prompt?.inputTokensEstimate ?? 0n),
  };
  return running;
}

/** Never throws. */
async function execute(running: Running): Promise<Execution> {
  const { stopped, output } = running;
  try {
    return await carryOut(running);
  } catch (error) {
    const verdict = stopped.aborted
      ? stopVerdict(stopped.reason as StopCause, output.content)
      : failureVerdict(asDrawbridgeError(error), output.content);
    return { verdict, results: [], billed: nothingMetered, conversation: "" };
  }
}

function conclude(running: Running, verdict: Verdict, outcome: Outcome): void {
  const { batcher, outbox, log, request, output } = running;
  outbox.add(outcome);
  if (verdict.kind === "finished") {
    const { stopReason } = verdict;
    const stopSequence = stopReason === StopReason.STOP_SEQUENCE ? output.stopSequence : undefined;
    batcher.add({ case: "finished", value: create(FinishedSchema, { stopReason, outcome, stopSequence }) });
    batcher.end();
    return;
  }
  const { error } = verdict;
  log.warn({ err: error, request_id: request.requestId, attempt_id: request.attemptId }, "a prompt failed");
  batcher.fail(
    new DrawbridgeError(error.reason, error.message, {
      cause: error,
      detail: { desc: PromptFailureSchema, value: create(PromptFailureSchema, { outcome }) },
      ...(error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs }),
    }),
  );
}
