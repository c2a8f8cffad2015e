// One attempt: a lease, the worker's stream, and the report of how it ended.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type PromptEvent, StopReason } from "#gen/drawbridge/v1/prompt";
import type { Lease } from "#gen/drawbridge/v1/scheduler_service";
import { End, type Outcome, OutcomeSchema } from "#gen/drawbridge/v1/usage";
import { type PromptResponse, PromptResponseSchema } from "#gen/drawbridge/v1/worker_service";
import type { Clock } from "../kit/clock.ts";
import { asDrawbridgeError, DrawbridgeError } from "../kit/errors.ts";
import type { Log } from "../kit/log.ts";
import type { RunRequest, WorkerCalls } from "./fleet-client.ts";
import { observedOutcome, outcomeOf, withOutcome } from "./outcome.ts";
import type { Reports } from "./reports.ts";

export interface AttemptOptions {
  readonly lease: Lease;
  readonly request: RunRequest;
  readonly reports: Reports;
  readonly worker: WorkerCalls;
  /** When the whole request is over, by the monotonic clock. */
  readonly deadline: number;
  readonly clock: Clock;
  readonly log: Log;
  readonly settings: AttemptSettings;
}

export interface AttemptSettings {
  /** After a cancel, time for the worker to tell how the attempt ended, in ms. */
  readonly cancelBoundMs: number;
}

/** What one attempt has shown so far. */
interface Progress {
  content: boolean;
  inputTokens: bigint;
  outputTokens: bigint;
  outcome: Outcome | undefined;
}

/** One for all attempts: a reason made for each is a stack trace made for each. */
const attemptOver = new DrawbridgeError("CANCELLED", "The caller stopped reading.");

/**
 * Yields the worker's batches, the first with content (or the end) in it; what came before is put in front of it, so that nothing is told of
 * an attempt that may still move on. Throws a DrawbridgeError that carries the outcome; after the caller left it ends with `finished` instead.
 * Reports the lease before it ends, either way.
 */
export async function* runAttempt(options: AttemptOptions): AsyncGenerator<PromptResponse, void, undefined> {
  const { lease, request, clock } = options;
  const progress: Progress = { content: false, inputTokens: 0n, outputTokens: 0n, outcome: undefined };
  const call = new AbortController();
  using _cancelling = cancelOnAbort(options, call);
  let reported: Promise<void> | undefined;
  const reportOnce = (outcome: Outcome) => (reported ??= options.reports.send(outcome));
  try {
    for await (const batch of batches(options, progress, call.signal)) {
      // The last event does not wait for the report, nor the report for the reader of the last event.
      if (progress.outcome) void reportOnce(progress.outcome);
      yield batch;
    }
    if (!progress.outcome) {
      throw new DrawbridgeError("WORKER_UNREACHABLE", "The worker ended its answer without an end.");
    }
  } catch (error) {
    const left = request.signal.aborted;
    const failure = asDrawbridgeError(error);
    const outcome = outcomeOf(error) ?? observedOutcome(lease, progress, failure, left, clock.now());
    progress.outcome ??= withCredits(outcome, lease);
    if (!left) throw withOutcome(error, progress.outcome);
    yield cancelledEnd(progress.outcome);
  } finally {
    call.abort(attemptOver);
    // A consumer that stops reading has left, whatever the worker says later.
    await reportOnce(progress.outcome ?? observedOutcome(lease, progress, attemptOver, true, clock.now()));
  }
}

/** The end of an attempt whose caller left and whose worker did not tell. */
function cancelledEnd(outcome: Outcome): PromptResponse {
  return create(PromptResponseSchema, {
    events: [{ event: { case: "finished", value: { stopReason: StopReason.CANCELLED, outcome } } }],
    outputTokens: outcome.usage?.outputTokens ?? 0n,
  });
}

/** The end of a request whose caller left before it had a lease. */
export function leftInQueue({ requestId }: RunRequest, now: number): PromptResponse {
  return cancelledEnd(create(OutcomeSchema, { requestId, end: End.CANCELLED, endedAt: timestampFromMs(now) }));
}

/** Reports a lease that nothing was done with, since its caller had left. */
export async function giveBack(options: Pick<AttemptOptions, "lease" | "reports" | "clock">): Promise<PromptResponse> {
  const nothing = { content: false, inputTokens: 0n, outputTokens: 0n };
  const left = new DrawbridgeError("CANCELLED", "The caller left.");
  const outcome = observedOutcome(options.lease, nothing, left, true, options.clock.now());
  await options.reports.send(outcome);
  return cancelledEnd(outcome);
}

async function* batches(
  { worker, lease, request, deadline, clock }: AttemptOptions,
  progress: Progress,
  signal: AbortSignal,
): AsyncGenerator<PromptResponse, void, undefined> {
  const early: PromptEvent[] = [];
  const { requestId, prompt } = request;
  const { attemptId, accountId, workerIncarnation } = lease;
  const responses = worker.prompt(
    { requestId, attemptId, accountId, workerIncarnation, prompt },
    { signal, timeoutMs: Math.max(1, Math.ceil(deadline - clock.monotonic())) },
  );
  try {
    // Read to the end of the stream, which is behind the last event: unread, it would keep a stream of the connection open for ever.
    for await (const response of responses) {
      observe(response, progress, lease);
      if (!progress.content && !progress.outcome) {
        early.push(...response.events);
        continue;
      }
      if (early.length > 0) response.events.unshift(...early.splice(0));
      yield response;
    }
  } catch (error) {
    // Nothing is missing when the connection breaks behind the last event.
    if (!progress.outcome) throw error;
  }
}

/** What the account pays: where the agent does not say, and something was produced, it is what the lease reserved. */
function withCredits(outcome: Outcome, lease: Lease): Outcome {
  if (outcome.content) outcome.millicredits ??= lease.millicredits;
  return outcome;
}

function observe(response: PromptResponse, progress: Progress, lease: Lease): void {
  if (response.outputTokens > progress.outputTokens) progress.outputTokens = response.outputTokens;
  for (const { event } of response.events) {
    switch (event.case) {
      case "started":
        progress.inputTokens = event.value.inputTokensEstimate;
        break;
      case "text":
      case "reasoning":
      case "toolCall":
        progress.content = true;
        break;
      case "finished":
        progress.outcome = event.value.outcome && withCredits(event.value.outcome, lease);
        break;
      default:
    }
  }
}

/** When the caller leaves, the worker is asked to end the turn, so that it tells what was produced; if it does not, the call is aborted. */
function cancelOnAbort(options: AttemptOptions, call: AbortController): Disposable {
  const { request, clock, settings } = options;
  let bound: Disposable | undefined;
  const cancel = () => {
    bound = clock.after(settings.cancelBoundMs, () => call.abort());
    void askToCancel(options, call);
  };
  if (request.signal.aborted) cancel();
  else request.signal.addEventListener("abort", cancel, { once: true });
  return {
    [Symbol.dispose]() {
      request.signal.removeEventListener("abort", cancel);
      bound?.[Symbol.dispose]();
    },
  };
}

/** A prompt that the worker has not taken yet is not found; asking again finds it. */
const askAgainMs = 50;

async function askToCancel(
  { lease, worker, clock, log, settings }: AttemptOptions,
  call: AbortController,
): Promise<void> {
  const { attemptId } = lease;
  const { signal } = call;
  try {
    while (!signal.aborted) {
      const { found } = await worker.cancelPrompt({ attemptId }, { timeoutMs: settings.cancelBoundMs, signal });
      if (found) return;
      await clock.sleep(askAgainMs, signal);
    }
  } catch (error) {
    if (signal.aborted) return;
    log.warn({ err: error, attempt_id: attemptId }, "cancel did not reach the worker");
    call.abort();
  }
}
