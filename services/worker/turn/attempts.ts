// The prompts of this worker, from admission to outcome. An attempt runs by itself, whether its caller reads, lags or leaves, and always
// ends with one outcome, which goes to the caller and to the outbox.
import { create } from "@bufbuild/protobuf";
import { FinishedSchema, type PromptEvent, StartedSchema } from "#gen/drawbridge/v1/prompt";
import type { Outcome } from "#gen/drawbridge/v1/usage";
import { PromptFailureSchema, type PromptRequest } from "#gen/drawbridge/v1/worker_service";
import type { Clock } from "../../kit/clock.ts";
import { asDrawbridgeError, DrawbridgeError } from "../../kit/errors.ts";
import type { Log } from "../../kit/log.ts";
import { countTokens } from "../../kit/tokens.ts";
import { type Batcher, createBatcher } from "./batcher.ts";
import type { WorkerSettings } from "../config.ts";
import { failureVerdict, outcomeOf, type StopCause, stopVerdict, type Verdict, verdictOf } from "./outcome.ts";
import type { Outbox } from "../presence/outbox.ts";
import type { Place, Pool, Ticket } from "../pool/pool.ts";
import { promptBlocks, promptText } from "./prompt-text.ts";
import { runTurn, type TurnResult } from "./turn.ts";
import { createTurnOutput, type TurnOutput } from "./turn-output.ts";

export interface AttemptsOptions {
  readonly workerId: string;
  readonly incarnation: string;
  readonly pools: ReadonlyMap<string, Pool>;
  readonly outbox: Outbox;
  readonly config: WorkerSettings;
  readonly clock: Clock;
  readonly log: Log;
  /** Told when an attempt began or ended. */
  readonly onChange: () => void;
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

export interface Attempts {
  /**
   * Admits a prompt. `timeoutMs`: what the call allows. Refusals throw: NOT_FOUND, MODEL_NOT_FOUND, LEASE_INVALID, ALREADY_EXISTS, DRAINING,
   * QUEUE_FULL, or why the pool has no process.
   */
  begin(request: PromptRequest, timeoutMs: number | undefined): Attempt;
  /** false: no such attempt runs or waits. */
  cancel(attemptId: string): boolean;
  /** Ids of those that run or wait. */
  readonly running: readonly string[];
  /** Refuses new ones. */
  drain(): void;
  /** Resolves when none is left. */
  settled(): Promise<void>;
  stopAll(cause: StopCause): void;
}

export function createAttempts(options: AttemptsOptions): Attempts {
  const attempts = new Map<string, { readonly attempt: Attempt; readonly over: Promise<void> }>();
  let draining = false;

  function admit(request: PromptRequest): { pool: Pool; model: string } {
    if (request.workerIncarnation !== "" && request.workerIncarnation !== options.incarnation) {
      throw new DrawbridgeError("LEASE_INVALID", "The lease is for an earlier start of this worker. Acquire another.");
    }
    const pool = options.pools.get(request.accountId);
    if (!pool) throw new DrawbridgeError("NOT_FOUND", `This worker does not serve account ${request.accountId}.`);
    const { models } = pool.account;
    const name = request.prompt?.model ?? "";
    const model = Object.hasOwn(models, name) ? models[name] : undefined;
    if (model === undefined)
      throw new DrawbridgeError("MODEL_NOT_FOUND", `Account ${request.accountId} does not serve ${name}.`);
    if (draining) throw new DrawbridgeError("DRAINING", "This worker drains. Use another.");
    if (attempts.has(request.attemptId))
      throw new DrawbridgeError("ALREADY_EXISTS", `Attempt ${request.attemptId} runs already.`);
    return { pool, model };
  }

  return {
    begin(request, timeoutMs) {
      const { pool, model } = admit(request);
      const totalMs = Math.min(options.config.total_timeout, timeoutMs ?? Infinity);
      const { attempt, over } = startAttempt({ ...options, request, model, ticket: pool.enter(model), totalMs });
      const tracked = over.finally(() => {
        attempts.delete(request.attemptId);
        options.onChange();
      });
      attempts.set(request.attemptId, { attempt, over: tracked });
      options.onChange();
      return attempt;
    },
    cancel(attemptId) {
      const found = attempts.get(attemptId);
      found?.attempt.stop("cancelled");
      return found !== undefined;
    },
    get running() {
      return [...attempts.keys()];
    },
    drain: () => void (draining = true),
    async settled() {
      while (attempts.size > 0) await Promise.all([...attempts.values()].map(({ over }) => over));
    },
    stopAll(cause) {
      for (const { attempt } of attempts.values()) attempt.stop(cause);
    },
  };
}

interface StartOptions extends AttemptsOptions {
  readonly request: PromptRequest;
  /** By the agent's name. */
  readonly model: string;
  readonly ticket: Ticket;
  readonly totalMs: number;
}

/** What the parts of a running attempt share. */
interface Running extends StartOptions {
  readonly stopped: AbortController;
  readonly batcher: Batcher;
  readonly output: TurnOutput;
  place: Place | undefined;
  inputTokens: number;
}

function startAttempt(options: StartOptions): { attempt: Attempt; over: Promise<void> } {
  const { clock, config, request, ticket } = options;
  const stopped = new AbortController();
  const startedAtMs = clock.now();
  let firstContentAtMs: number | undefined;
  const batcher = createBatcher({
    charsMax: config.buffer_limit,
    onPressure(high) {
      // After a stop the agent is read in any case: it may have to be rid of its output before it hears the cancel.
      if (high && !stopped.signal.aborted) running.place?.agent.connection.pause();
      else running.place?.agent.connection.resume();
    },
  });
  const output = createTurnOutput({
    tokensMax: Number(request.prompt?.outputTokensMax ?? 0n) || config.output_tokens_max,
    stop: request.prompt?.stop ?? [],
    batcher,
    onFirst: () => void (firstContentAtMs = clock.now()),
  });
  const running: Running = {
    ...options,
    stopped,
    batcher,
    output,
    place: undefined,
    inputTokens: Number(request.prompt?.inputTokensEstimate ?? 0n),
  };
  const stop = (cause: StopCause) => {
    if (stopped.signal.aborted) return;
    stopped.abort(cause);
    ticket.leave(cause);
  };
  const deadline = clock.after(options.totalMs, () => stop("deadline"));
  const over = execute(running).then(({ verdict, result }) => {
    deadline[Symbol.dispose]();
    const facts = {
      requestId: request.requestId,
      attemptId: request.attemptId,
      accountId: request.accountId,
      workerId: options.workerId,
      startedAtMs,
      firstContentAtMs,
      endedAtMs: clock.now(),
      metered: {
        inputTokens: running.inputTokens,
        outputTokens: output.tokens,
        reasoningTokens: output.reasoningTokens,
      },
    };
    conclude(running, verdict, outcomeOf(facts, verdict, result));
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

interface Execution {
  readonly verdict: Verdict;
  /** Absent: no agent got the prompt. */
  readonly result?: TurnResult;
}

/** Waits for a place and runs the turn. Never throws. */
async function execute(running: Running): Promise<Execution> {
  const { stopped, ticket, output } = running;
  let completed = false;
  try {
    running.place = await ticket.place;
    const result = await promptAgent(running, running.place);
    completed = result.end.kind === "finished" || result.end.kind === "cut";
    return { verdict: verdictOf(result, stopped.signal.reason as StopCause | undefined, output.content), result };
  } catch (error) {
    if (stopped.signal.aborted) return { verdict: stopVerdict(stopped.signal.reason as StopCause, output.content) };
    return { verdict: failureVerdict(asDrawbridgeError(error), output.content) };
  } finally {
    const { place } = running;
    running.place = undefined;
    place?.agent.connection.resume();
    place?.release({ completed, used: true, close: [place.session] });
  }
}

function promptAgent(running: Running, { agent, session }: Place): Promise<TurnResult> {
  const { request, batcher, workerId, model } = running;
  const blocks = promptBlocks(request.prompt?.messages ?? [], { takesImages: agent.takesImages });
  if (running.inputTokens === 0) running.inputTokens = countTokens(promptText(blocks));
  return runTurn({
    agent,
    session,
    model,
    blocks,
    output: running.output,
    signal: running.stopped.signal,
    config: running.config,
    clock: running.clock,
    onStarted() {
      const { accountId, attemptId } = request;
      const inputTokensEstimate = BigInt(running.inputTokens);
      const value = create(StartedSchema, { accountId, workerId, attemptId, inputTokensEstimate });
      batcher.add({ case: "started", value });
    },
  });
}

function conclude({ batcher, outbox, log, request }: Running, verdict: Verdict, outcome: Outcome): void {
  outbox.add(outcome);
  if (verdict.kind === "finished") {
    batcher.add({ case: "finished", value: create(FinishedSchema, { stopReason: verdict.stopReason, outcome }) });
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
