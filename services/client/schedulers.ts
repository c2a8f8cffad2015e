// Several schedulers as one: calls take turns, and go on to the next one where one is away. One more or less changes nothing for who calls.
import type { CallOptions, Client } from "@connectrpc/connect";
import { LRUCache } from "lru-cache";
import type { SchedulerService } from "#gen/drawbridge/v1/scheduler_service";
import type { Clock } from "../kit/clock.ts";
import { asDrawbridgeError, DrawbridgeError } from "../kit/errors.ts";

type Scheduler = Client<typeof SchedulerService>;

/** One that was away is asked last for so long, in ms. */
const awayMs = 1_000;
/** Attempts whose scheduler is remembered, so that it hears of their ends. */
const attemptsMax = 20_000;

export function joinSchedulers(schedulers: readonly Scheduler[], clock: Clock): Scheduler {
  const [only] = schedulers;
  if (!only) throw new DrawbridgeError("INVALID_ARGUMENT", "There is no scheduler to call.");
  if (schedulers.length === 1) return only;
  const awayUntil = new Map<Scheduler, number>();
  const giverOf = new LRUCache<string, Scheduler>({ max: attemptsMax });
  let turn = 0;

  /** All of them, `first` or the one whose turn it is in front, those that were just away at the end. */
  const inOrder = (first?: Scheduler): Scheduler[] => {
    turn = (turn + 1) % schedulers.length;
    const rotated = [...schedulers.slice(turn), ...schedulers.slice(0, turn)];
    const now = clock.monotonic();
    const rank = (each: Scheduler) => ((awayUntil.get(each) ?? 0) > now ? 2 : each === first ? 0 : 1);
    return rotated.sort((a, b) => rank(a) - rank(b));
  };

  const call = async <T>(
    work: (scheduler: Scheduler) => Promise<T>,
    options: CallOptions | undefined,
    first?: Scheduler,
  ): Promise<T> => {
    let failure: unknown;
    for (const scheduler of inOrder(first)) {
      try {
        return await work(scheduler);
      } catch (error) {
        const { reason } = asDrawbridgeError(error);
        if (reason !== "STATE_UNAVAILABLE" || options?.signal?.aborted) throw error;
        awayUntil.set(scheduler, clock.monotonic() + awayMs);
        failure = error;
      }
    }
    throw failure;
  };

  return {
    acquire: (request, options) =>
      call(async (scheduler) => {
        const response = await scheduler.acquire(request, options);
        if (request.attemptId) giverOf.set(request.attemptId, scheduler);
        return response;
      }, options),
    report(request, options) {
      const attemptId = request.outcome?.attemptId ?? "";
      return call((scheduler) => scheduler.report(request, options), options, giverOf.get(attemptId));
    },
    listModels: (request, options) => call((scheduler) => scheduler.listModels(request, options), options),
    explain: (request, options) =>
      request.requestId
        ? explainPast(inOrder(), request, options)
        : call((scheduler) => scheduler.explain(request, options), options),
    dispatch: (request, options) => (inOrder()[0] ?? only).dispatch(request, options),
  };
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
