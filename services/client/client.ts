// The fleet client: attempts, one after another, until one has content or none is left to try.
import { type Lease, Priority } from "#gen/drawbridge/v1/scheduler_service";
import type { PromptResponse } from "#gen/drawbridge/v1/worker_service";
import type { Clock } from "../kit/clock.ts";
import { continuedConversation } from "../kit/conversation-key.ts";
import { asDrawbridgeError, DrawbridgeError } from "../kit/errors.ts";
import type { Log } from "../kit/log.ts";
import { newId, type Random } from "../kit/random.ts";
import { type AttemptSettings, giveBack, leftInQueue, runAttempt } from "./attempt.ts";
import type { FleetClient, RunRequest, SchedulerCalls, WorkerCalls } from "./fleet-client.ts";
import { outcomeOf } from "./outcome.ts";
import { createReports, type Reports } from "./reports.ts";
import { createRetryBudget, nextStep, type RetryBudget } from "./retry-policy.ts";

export interface FleetClientSettings extends AttemptSettings {
  /** Attempts for one request, the first included. */
  readonly attemptsMax: number;
  /** Retries, as a share of the requests. */
  readonly retryShare: number;
  /** Retries at once. */
  readonly retryBurst: number;
  /** Retries that come back in a second without any request. */
  readonly retryPerSecond: number;
  /** Nothing is tried again with less time than this left, in ms. */
  readonly retryMarginMs: number;
  /** Time for one try of a report, in ms. */
  readonly reportTimeoutMs: number;
}

export const defaultFleetClientSettings: FleetClientSettings = {
  attemptsMax: 3,
  retryShare: 0.2,
  retryBurst: 10,
  retryPerSecond: 1,
  retryMarginMs: 100,
  cancelBoundMs: 5_000,
  reportTimeoutMs: 5_000,
};

export interface FleetClientDependencies {
  readonly scheduler: SchedulerCalls;
  /** The worker at an address. */
  readonly worker: (address: string) => WorkerCalls;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly settings?: Partial<FleetClientSettings>;
}

export function createFleetClient(dependencies: FleetClientDependencies): FleetClient {
  const settings = { ...defaultFleetClientSettings, ...dependencies.settings };
  const budget = createRetryBudget({
    share: settings.retryShare,
    burst: settings.retryBurst,
    perSecond: settings.retryPerSecond,
    clock: dependencies.clock,
  });
  const reports = createReports({ ...dependencies, timeoutMs: settings.reportTimeoutMs });
  return {
    run: (request) => run({ ...dependencies, settings, budget, reports }, request),
    report: (outcome) => reports.send(outcome),
    [Symbol.asyncDispose]: () => reports[Symbol.asyncDispose](),
  };
}

interface Context extends FleetClientDependencies {
  readonly settings: FleetClientSettings;
  readonly budget: RetryBudget;
  readonly reports: Reports;
}

/** What was tried for a request. */
interface Tried {
  /** The conversation that the request continues, by its key; empty: none. */
  readonly conversation: string;
  attempts: number;
  accounts: string[];
  /** The last failure, and whether its account may be tried again. */
  failure: DrawbridgeError | undefined;
  again: boolean;
  /** Whether an account was tried again, which happens once. */
  repeated: boolean;
}

async function* run(context: Context, request: RunRequest): AsyncGenerator<PromptResponse, void, undefined> {
  const { clock, settings, budget } = context;
  const deadline = clock.monotonic() + request.timeoutMs;
  const conversation = continuedConversation(request.prompt);
  const tried: Tried = { conversation, attempts: 0, accounts: [], failure: undefined, again: false, repeated: false };
  budget.earn();
  for (;;) {
    const lease = await acquire(context, request, tried, deadline).catch((error: unknown) => {
      if (!request.signal.aborted) throw error;
    });
    if (request.signal.aborted || !lease) {
      yield lease ? await giveBack({ ...context, lease }) : leftInQueue(request, clock.now());
      return;
    }
    tried.attempts += 1;
    let content = false;
    try {
      const worker = context.worker(lease.workerAddress);
      for await (const response of runAttempt({ ...context, lease, request, worker, deadline })) {
        content = true;
        yield response;
      }
      return;
    } catch (error) {
      const failure = asDrawbridgeError(error);
      const step = nextStep(failure.reason);
      const over = content || outcomeOf(failure)?.content || request.signal.aborted || step === "stop";
      const late = clock.monotonic() + settings.retryMarginMs >= deadline;
      if (over || late || tried.attempts >= settings.attemptsMax || !budget.spend()) throw failure;
      tried.accounts.push(lease.accountId);
      tried.failure = failure;
      tried.again = step === "again";
    }
  }
}

/** A lease for the next attempt. Where nothing is left to try, the last attempt's failure is the answer. */
async function acquire(context: Context, request: RunRequest, tried: Tried, deadline: number): Promise<Lease> {
  try {
    return await call(context, request, tried, tried.accounts, deadline);
  } catch (error) {
    if (!tried.failure || request.signal.aborted) throw error;
    if (!tried.again || tried.repeated) throw tried.failure;
    // The only accounts left are those whose process failed: a new process may do better.
    tried.repeated = true;
    return await call(context, request, tried, [], deadline).catch(() => {
      throw tried.failure;
    });
  }
}

async function call(
  { scheduler, reports, clock }: Context,
  { requestId, prompt, userId = "", priority = Priority.UNSPECIFIED, signal }: RunRequest,
  { conversation }: Tried,
  excludedAccountIds: string[],
  deadline: number,
): Promise<Lease> {
  const attemptId = newId("att");
  const timeoutMs = Math.max(1, Math.ceil(deadline - clock.monotonic()));
  try {
    // With the caller's signal, so that who leaves frees their place in the queue.
    const { lease } = await scheduler.acquire(
      { requestId, attemptId, model: prompt.model, excludedAccountIds, conversation, userId, priority },
      { timeoutMs, signal },
    );
    if (!lease) throw new DrawbridgeError("INTERNAL", "The scheduler answered without a lease.");
    return lease;
  } catch (error) {
    // The lease may have been on its way to us.
    if (signal.aborted || asDrawbridgeError(error).reason === "DEADLINE_EXCEEDED") await reports.release(attemptId);
    throw error;
  }
}
