// Requests that wait for a slot, in a bounded queue for each model. A change of the view that makes room wakes the next ones; nothing polls.
import type { AcquireRequest } from "#gen/drawbridge/v1/scheduler_service";
import { type AcquireCall, choose, giveBack, place } from "../acquire.ts";
import type { ClaimOptions } from "../claim.ts";
import type { DecisionRecord } from "../explain/decisions.ts";
import type { Candidate } from "../fleet/candidate.ts";
import type { GivenLease } from "../given-leases.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { Log } from "../../kit/log.ts";
import type { Random } from "../../kit/random.ts";
import { type Hope, type Prospect, prospectOf } from "../prospect.ts";
import { FairQueue, type Waiting } from "./fair-queue.ts";
import { createServiceRate, type ServiceRate } from "./service-rate.ts";

export interface WaitingRoomsOptions extends ClaimOptions {
  readonly random: Random;
  readonly log: Log;
  /** Requests that wait for the model at other schedulers. */
  readonly waitingElsewhere: (model: string) => number;
  /** The number of those that wait here changed. */
  readonly onCount: (model: string) => void;
}

export interface WaitingRooms extends Disposable {
  /** Whether a request for the model would overtake somebody who waits, here or at another scheduler. */
  waits(model: string): boolean;
  /** Waits for a lease. NO_CAPACITY (NO_WORKER) if the queue is full, if the wait cannot fit, or if it turned out not to; CANCELLED if the caller left. */
  wait(call: AcquireCall, hope: Hope, record: DecisionRecord): Promise<GivenLease>;
  /** Models that have a queue. */
  models(): Iterable<string>;
  /** How many wait for the model. */
  waiting(model: string): number;
  /** There may be room for the model. */
  wake(model: string): void;
  /** Lets those go who have nothing to hope for any more. */
  review(): void;
}

interface Waiter extends Waiting {
  readonly request: AcquireRequest;
  readonly record: DecisionRecord;
  readonly give: PromiseWithResolvers<GivenLease>;
  /** The store is asked for it now. */
  claiming: boolean;
  /** It has left, or has its answer. */
  over: boolean;
}

interface Room {
  readonly model: string;
  readonly queue: FairQueue<Waiter>;
  readonly rate: ServiceRate;
  /** Other schedulers, where requests wait too, have the first go at what comes free until then. */
  yieldsUntil: number;
  waking: boolean;
  timer: Disposable | undefined;
}

/** Waiters that one look at the queue asks, where candidates are excluded for some of them. */
const looksMax = 64;
/** The answer leaves so long before the caller's deadline, in ms, so that it comes in time. */
const answerMs = 50;

export function createWaitingRooms(options: WaitingRoomsOptions): WaitingRooms {
  const { view, clock, config, random, log } = options;
  const settings = config.queue;
  const rooms = new Map<string, Room>();
  let size = 0;

  const roomOf = (model: string): Room => {
    let room = rooms.get(model);
    if (!room) {
      const { weight_high: high, weight_normal: normal, weight_low: low } = settings;
      const queue = new FairQueue<Waiter>({ high, normal, low });
      room = { model, queue, rate: createServiceRate(), yieldsUntil: 0, waking: false, timer: undefined };
      rooms.set(model, room);
    }
    return room;
  };

  const leave = (room: Room, waiter: Waiter) => {
    if (waiter.over) return;
    waiter.over = true;
    room.queue.remove(waiter);
    size -= 1;
    options.onCount(room.model);
    if (room.queue.size > 0) return;
    room.timer?.[Symbol.dispose]();
    if (!view.model(room.model)) rooms.delete(room.model);
  };

  /** Serves as many as there is room for, in the order of their turns. */
  const serveAll = (room: Room) => {
    room.waking = false;
    while (room.queue.size > 0 && view.model(room.model)?.room) {
      if (yields(room)) return;
      let candidate: Candidate | undefined;
      const waiter = room.queue.next((each) => {
        candidate = each.claiming ? undefined : choose(options, each.request, []);
        return candidate !== undefined;
      }, looksMax);
      if (!waiter || !candidate) return;
      void serve(room, waiter, candidate);
    }
  };

  /**
   * A scheduler hears of the ends of its own leases before others do, and would give every slot to its own queue. So where requests wait
   * elsewhere too, others have the first go at their share of what comes free.
   */
  const yields = (room: Room): boolean => {
    const now = clock.now();
    if (room.yieldsUntil > now) return true;
    const elsewhere = options.waitingElsewhere(room.model);
    if (elsewhere === 0 || room.yieldsUntil > now - settings.yield) return false;
    if (random() * (elsewhere + room.queue.size) >= elsewhere) return false;
    room.yieldsUntil = now + settings.yield;
    room.timer?.[Symbol.dispose]();
    room.timer = clock.after(settings.yield, () => serveAll(room));
    return true;
  };

  const serve = async (room: Room, waiter: Waiter, first: Candidate) => {
    waiter.claiming = true;
    try {
      const given = await place(options, waiter.request, first, waiter.record);
      if (!given) {
        room.queue.refund(waiter);
      } else if (waiter.over) {
        await giveBack(options, given);
      } else {
        room.rate.served(clock.now());
        leave(room, waiter);
        waiter.give.resolve(given);
      }
    } catch (error) {
      if (waiter.over) log.warn({ err: error }, "a lease that nobody waits for could not be given back");
      leave(room, waiter);
      waiter.give.reject(error);
    } finally {
      waiter.claiming = false;
      wake(room.model);
    }
  };

  const wake = (model: string) => {
    const room = rooms.get(model);
    if (!room || room.waking || room.queue.size === 0) return;
    room.waking = true;
    queueMicrotask(() => serveAll(room));
  };

  const admit = (room: Room, waiter: Waiter, boundMs: number, hope: Hope) => {
    const estimateMs = room.rate.estimateMs(room.queue.ahead(waiter), clock.now());
    if (size >= settings.size) throw refusal(options, room.model, "The queue is full.", estimateMs);
    if (hope === "worker" || estimateMs === undefined || estimateMs <= boundMs) return;
    throw refusal(options, room.model, "The wait would be too long.", estimateMs);
  };

  return {
    waits: (model) => (rooms.get(model)?.queue.size ?? 0) > 0 || options.waitingElsewhere(model) > 0,

    async wait({ request, signal, timeoutMs = Infinity }, hope, record) {
      const room = roomOf(request.model);
      const give = Promise.withResolvers<GivenLease>();
      const { userId, priority } = request;
      const waiter: Waiter = { userId, priority, request, record, give, claiming: false, over: false };
      const limitMs = hope === "worker" ? settings.cold_start_wait : settings.wait_max;
      const boundMs = Math.min(limitMs, timeoutMs - Math.min(answerMs, timeoutMs / 10));
      admit(room, waiter, boundMs, hope);
      const stop = (error: unknown) => {
        leave(room, waiter);
        give.reject(error);
      };
      const left = () => stop(signal.reason ?? new DrawbridgeError("CANCELLED", "The caller left."));
      if (signal.aborted) throw signal.reason;
      signal.addEventListener("abort", left, { once: true });
      using _deadline = clock.after(boundMs, () => stop(timedOut(options, room, waiter, hope)));
      if (room.queue.size === 0) room.rate.begin(clock.now());
      room.queue.add(waiter);
      size += 1;
      record.waiting(hope);
      options.onCount(room.model);
      wake(room.model);
      try {
        return await give.promise;
      } finally {
        signal.removeEventListener("abort", left);
      }
    },

    models: () => rooms.keys(),
    waiting: (model) => rooms.get(model)?.queue.size ?? 0,
    wake,

    review() {
      for (const room of rooms.values()) {
        // Of those who exclude nothing, one speaks for all.
        let shared: Prospect | undefined;
        for (const waiter of room.queue) {
          if (waiter.claiming) continue;
          const excludes = waiter.request.excludedAccountIds.length > 0;
          const prospect = excludes
            ? prospectOf(options, waiter.request)
            : (shared ??= prospectOf(options, waiter.request));
          if (prospect.kind !== "hopeless") continue;
          leave(room, waiter);
          waiter.give.reject(prospect.error);
        }
        wake(room.model);
      }
    },

    [Symbol.dispose]() {
      for (const room of rooms.values()) {
        room.timer?.[Symbol.dispose]();
        for (const waiter of room.queue) {
          leave(room, waiter);
          waiter.give.reject(
            new DrawbridgeError("NO_CAPACITY", "The scheduler stops.", { retryAfterMs: config.retry_after }),
          );
        }
      }
    },
  };
}

function refusal(
  { config }: ClaimOptions,
  model: string,
  why: string,
  estimateMs: number | undefined,
): DrawbridgeError {
  const retryAfterMs = Math.min(config.queue.wait_max, Math.max(config.retry_after, estimateMs ?? 0));
  return new DrawbridgeError("NO_CAPACITY", `All accounts that serve "${model}" are busy. ${why} Try again later.`, {
    retryAfterMs,
  });
}

function timedOut(options: ClaimOptions, room: Room, waiter: Waiter, hope: Hope): DrawbridgeError {
  if (hope === "worker") {
    const message = `No worker of "${room.model}" came up in time. Try again in a moment.`;
    return new DrawbridgeError("NO_WORKER", message, { retryAfterMs: options.config.retry_after });
  }
  const { rate, queue } = room;
  return refusal(
    options,
    room.model,
    "No slot came free in time.",
    rate.estimateMs(queue.ahead(waiter), options.clock.now()),
  );
}
