// Several schedulers as one. They are replicas as others are, but the one that gave a lease hears of its end, and past decisions are told by
// whoever made them.
import type { CallOptions, Client } from "@connectrpc/connect";
import { LRUCache } from "lru-cache";
import type { SchedulerService } from "#gen/drawbridge/v1/scheduler_service";
import type { Clock } from "../kit/clock.ts";
import { asDrawbridgeError, DrawbridgeError } from "../kit/errors.ts";
import { takeTurns } from "../kit/rpc/replicas.ts";

type Scheduler = Client<typeof SchedulerService>;

/** Attempts whose scheduler is remembered, so that it hears of their ends. */
const attemptsMax = 20_000;

export function joinSchedulers(schedulers: readonly Scheduler[], clock: Clock): Scheduler {
  const [only] = schedulers;
  if (!only) throw new DrawbridgeError("INVALID_ARGUMENT", "There is no scheduler to call.");
  if (schedulers.length === 1) return only;
  const giverOf = new LRUCache<string, Scheduler>({ max: attemptsMax });
  const turns = takeTurns(schedulers, clock);

  return {
    acquire: (request, options) =>
      turns.call(async (scheduler) => {
        // Before it answers: whoever gives the attempt up meanwhile has to ask the same one.
        if (request.attemptId) giverOf.set(request.attemptId, scheduler);
        return scheduler.acquire(request, options);
      }, turn(options)),
    report(request, options) {
      const attemptId = request.outcome?.attemptId ?? "";
      return turns.call((scheduler) => scheduler.report(request, options), turn(options, giverOf.get(attemptId)));
    },
    release: (request, options) =>
      turns.call(
        (scheduler) => scheduler.release(request, options),
        turn(options, giverOf.get(request.attemptId ?? "")),
      ),
    listModels: (request, options) => turns.call((scheduler) => scheduler.listModels(request, options), turn(options)),
    explain: (request, options) =>
      request.requestId
        ? explainPast(turns.inOrder(), request, options)
        : turns.call((scheduler) => scheduler.explain(request, options), turn(options)),
    dispatch: (request, options) => (turns.inOrder()[0] ?? only).dispatch(request, options),
  };
}

/** Acquire and Report are idempotent by attempt, so every call may be repeated elsewhere. */
function turn(options: CallOptions | undefined, first?: Scheduler) {
  return { signal: options?.signal, first };
}

/** Whichever of them decided tells. */
async function explainPast(
  schedulers: readonly Scheduler[],
  request: Parameters<Scheduler["explain"]>[0],
  options: CallOptions | undefined,
): ReturnType<Scheduler["explain"]> {
  let failure: unknown;
  for (const scheduler of schedulers) {
    try {
      return await scheduler.explain(request, options);
    } catch (error) {
      const { reason } = asDrawbridgeError(error);
      if (reason !== "NOT_FOUND" && reason !== "STATE_UNAVAILABLE") throw error;
      failure = error;
    }
  }
  throw failure;
}
