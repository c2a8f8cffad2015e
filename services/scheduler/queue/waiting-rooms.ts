// Requests that wait for a slot, in a bounded queue for each model. A change of the view that makes room wakes the next ones; nothing polls.
import type { AcquireRequest } from "#gen/drawbridge/v1/scheduler_service";
import type { AcquireCall } from "../acquire.ts";
import type { ClaimOptions } from "../claim.ts";
import type { SchedulerSettings } from "../config.ts";
import type { DecisionRecord } from "../explain/decisions.ts";
import type { Candidate } from "../fleet/candidate.ts";
import type { GivenLease } from "../given-leases.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { Log } from "../../kit/log.ts";
import type { Random } from "../../kit/random.ts";
import { choose, giveBack, place } from "../place.ts";
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
  return new Rooms(options);
}

class Rooms implements WaitingRooms {
  readonly #options: WaitingRoomsOptions;
  readonly #settings: SchedulerSettings["queue"];
  readonly #rooms = new Map<string, Room>();
  #size = 0;

  constructor(options: WaitingRoomsOptions) {
    this.#options = options;
    this.#settings = options.config.queue;
  }

  waits(model: string): boolean {
    if (this.#settings.size === 0) return false;
    return this.waiting(model) > 0 || this.#options.waitingElsewhere(model) > 0;
  }

  async wait({ request, signal, timeoutMs = Infinity }: AcquireCall, hope: Hope, record: DecisionRecord) {
    const room = this.#roomOf(request.model);
    const give = Promise.withResolvers<GivenLease>();
    const { userId, priority } = request;
    const waiter: Waiter = { userId, priority, request, record, give, claiming: false, over: false };
    const limitMs = hope === "worker" ? this.#settings.cold_start_wait : this.#settings.wait_max;
    const boundMs = Math.min(limitMs, timeoutMs - Math.min(answerMs, timeoutMs / 10));
    if (room.queue.size === 0) room.rate.begin(this.#options.clock.now());
    this.#admit(room, waiter, boundMs, hope);
    signal.throwIfAborted();
    const left = () => this.#dismiss(room, waiter, signal.reason);
    signal.addEventListener("abort", left, { once: true });
    using _deadline = this.#options.clock.after(boundMs, () =>
      this.#dismiss(room, waiter, timedOut(this.#options, room, waiter, hope)),
    );
    this.#enter(room, waiter);
    record.waiting(hope);
    try {
      return await give.promise;
    } finally {
      signal.removeEventListener("abort", left);
    }
  }

  models(): Iterable<string> {
    return this.#rooms.keys();
  }

  waiting(model: string): number {
    return this.#rooms.get(model)?.queue.size ?? 0;
  }

  wake(model: string): void {
    const room = this.#rooms.get(model);
    if (!room || room.waking || room.queue.size === 0) return;
    room.waking = true;
    queueMicrotask(() => this.#serveAll(room));
  }

  review(): void {
    for (const room of this.#rooms.values()) {
      // Of those who exclude nothing, one speaks for all.
      let shared: Prospect | undefined;
      for (const waiter of room.queue) {
        if (waiter.claiming) continue;
        const excludes = waiter.request.excludedAccountIds.length > 0;
        const prospect = excludes
          ? prospectOf(this.#options, waiter.request)
          : (shared ??= prospectOf(this.#options, waiter.request));
        if (prospect.kind === "hopeless") this.#dismiss(room, waiter, prospect.error);
      }
      this.wake(room.model);
    }
  }

  [Symbol.dispose](): void {
    const retryAfterMs = this.#options.config.retry_after;
    const stopping = new DrawbridgeError("STATE_UNAVAILABLE", "The scheduler stops.", { retryAfterMs });
    for (const room of this.#rooms.values()) {
      room.timer?.[Symbol.dispose]();
      for (const waiter of room.queue) this.#dismiss(room, waiter, stopping);
    }
  }

  #roomOf(model: string): Room {
    let room = this.#rooms.get(model);
    if (!room) {
      const { weight_high: high, weight_normal: normal, weight_low: low } = this.#settings;
      const queue = new FairQueue<Waiter>({ high, normal, low });
      room = { model, queue, rate: createServiceRate(), yieldsUntil: 0, waking: false, timer: undefined };
      this.#rooms.set(model, room);
    }
    return room;
  }

  /** Refuses one whose wait could not fit. */
  #admit(room: Room, waiter: Waiter, boundMs: number, hope: Hope): void {
    const { clock, view } = this.#options;
    const estimateMs = room.rate.estimateMs(room.queue.ahead(waiter), clock.now());
    if (this.#size >= this.#settings.size) throw refusal(this.#options, room.model, "The queue is full.", estimateMs);
    const soon = estimateMs === undefined || estimateMs <= boundMs || view.model(room.model)?.room === true;
    if (soon || hope === "worker") return;
    throw refusal(this.#options, room.model, "The wait would be too long.", estimateMs);
  }

  #enter(room: Room, waiter: Waiter): void {
    room.queue.add(waiter);
    this.#size += 1;
    this.#options.onCount(room.model);
    this.wake(room.model);
  }

  /** Takes the waiter out, with a lease or without. */
  #leave(room: Room, waiter: Waiter): void {
    if (waiter.over) return;
    waiter.over = true;
    room.queue.remove(waiter);
    this.#size -= 1;
    this.#options.onCount(room.model);
    if (room.queue.size > 0) return;
    room.timer?.[Symbol.dispose]();
    room.yieldsUntil = 0;
    if (!this.#options.view.model(room.model)) this.#rooms.delete(room.model);
  }

  #dismiss(room: Room, waiter: Waiter, error: unknown): void {
    this.#leave(room, waiter);
    waiter.give.reject(error);
  }

  /** Serves as many as there is room for, in the order of their turns. */
  #serveAll(room: Room): void {
    room.waking = false;
    while (room.queue.size > 0 && this.#options.view.model(room.model)?.room) {
      if (this.#yields(room)) return;
      let candidate: Candidate | undefined;
      const waiter = room.queue.next((each) => {
        candidate = each.claiming ? undefined : choose(this.#options, each.request, []);
        return candidate !== undefined;
      }, looksMax);
      if (!waiter || !candidate) return;
      void this.#serve(room, waiter, candidate);
    }
  }

  /**
   * A scheduler hears of the ends of its own leases before others do, and would give every slot to its own queue. So where requests wait
   * elsewhere too, others have the first go at their share of what comes free.
   */
  #yields(room: Room): boolean {
    const { clock, random, waitingElsewhere } = this.#options;
    const yieldMs = this.#settings.yield;
    const now = clock.now();
    if (room.yieldsUntil > now) return true;
    const elsewhere = waitingElsewhere(room.model);
    const hasJustYielded = room.yieldsUntil > now - yieldMs;
    if (elsewhere === 0 || hasJustYielded) return false;
    if (random() * (elsewhere + room.queue.size) >= elsewhere) return false;
    room.yieldsUntil = now + yieldMs;
    room.timer?.[Symbol.dispose]();
    room.timer = clock.after(yieldMs, () => this.#serveAll(room));
    return true;
  }

  async #serve(room: Room, waiter: Waiter, first: Candidate): Promise<void> {
    waiter.claiming = true;
    try {
      const given = await place(this.#options, waiter.request, first, waiter.record);
      if (!given) {
        room.queue.refund(waiter);
      } else if (waiter.over) {
        await giveBack(this.#options, given);
      } else {
        room.rate.served(this.#options.clock.now());
        this.#leave(room, waiter);
        waiter.give.resolve(given);
      }
    } catch (error) {
      if (waiter.over) this.#options.log.warn({ err: error }, "a lease that nobody waits for could not be given back");
      this.#dismiss(room, waiter, error);
    } finally {
      waiter.claiming = false;
      this.wake(room.model);
    }
  }
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
