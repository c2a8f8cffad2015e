// Real schedulers over one store, each behind a network of its own: words of workers come late, out of order or not at all, and calls of the store may
// lose their answer, or their effect.
import type { HandlerContext } from "@connectrpc/connect";
import { create } from "@bufbuild/protobuf";
import {
  type AcquireRequest,
  ExplainRequestSchema,
  type Lease,
  LeaseSchema,
  ReportRequestSchema,
} from "#gen/drawbridge/v1/scheduler_service";
import { type WatchWorkersResponse, WatchWorkersResponseSchema } from "#gen/drawbridge/v1/registry_service";
import type { Outcome } from "#gen/drawbridge/v1/usage";
import type { Worker } from "#gen/drawbridge/v1/worker";
import { DrawbridgeError } from "../../../services/kit/errors.ts";
import { silentLog } from "../../../services/kit/log.ts";
import type { Random } from "../../../services/kit/random.ts";
import { createSchedulerApp, type SchedulerApp } from "../../../services/scheduler/app.ts";
import type { SchedulerSettings } from "../../../services/scheduler/config.ts";
import type { State } from "../../../services/state/state.ts";
import type { EventClock } from "./event-clock.ts";
import type { Scenario } from "./scenario.ts";

export interface SimulatedScheduler {
  readonly name: string;
  alive: boolean;
  acquire(request: AcquireRequest, signal: AbortSignal, timeoutMs: number): Promise<Lease>;
  report(outcome: Outcome): Promise<void>;
  hear(worker: Worker): void;
  /** What it thinks of each candidate. */
  explain(): Promise<string[]>;
  /** The registry's snapshot, which makes up for what was lost. */
  resync(workers: readonly Worker[]): void;
  start(): Promise<void>;
  kill(): Promise<void>;
}

export interface SchedulerOptions {
  readonly name: string;
  readonly clock: EventClock;
  readonly random: Random;
  readonly state: State;
  readonly settings: SchedulerSettings;
  readonly scenario: Scenario;
}

export function createSimulatedScheduler(options: SchedulerOptions): SimulatedScheduler {
  const { name, clock, random, settings, scenario } = options;
  const words: WatchWorkersResponse[] = [];
  let heard = Promise.withResolvers<void>();
  const deliver = (element: WatchWorkersResponse["element"]) => {
    words.push(create(WatchWorkersResponseSchema, { element: element as never }));
    heard.resolve();
  };
  const app: SchedulerApp = createSchedulerApp({
    state: faulty(options),
    clock,
    random,
    log: silentLog,
    config: settings,
    registry: {
      async *watchWorkers() {
        for (;;) {
          heard = Promise.withResolvers();
          yield* words.splice(0);
          await heard.promise;
          if (!scheduler.alive) return;
        }
      },
    },
    worker: () => {
      throw new Error("clients call workers themselves");
    },
  });
  const away = () => new DrawbridgeError("STATE_UNAVAILABLE", `${name} is gone.`);

  const scheduler: SimulatedScheduler = {
    name,
    alive: true,
    async acquire(request, signal, timeoutMs) {
      if (!scheduler.alive) throw away();
      const context = { signal, timeoutMs: () => timeoutMs } as unknown as HandlerContext;
      const { lease } = await app.service.acquire(request, context);
      return create(LeaseSchema, lease);
    },
    async report(outcome) {
      if (!scheduler.alive) throw away();
      await app.service.report(create(ReportRequestSchema, { outcome }), {} as HandlerContext);
    },
    async explain() {
      const request = create(ExplainRequestSchema, { model: "m" });
      const { candidates = [] } = await app.service.explain(request, {} as HandlerContext);
      return candidates.map((each) => `${name} ${each.workerId}: rank ${each.rank}, ${each.explanation}`);
    },
    hear(worker) {
      if (random() < scenario.lossShare) return;
      clock.after(random() * scenario.delayMs, () => deliver({ case: "put", value: worker }));
    },
    resync: (workers) => deliver({ case: "snapshot", value: { workers: [...workers] } as never }),
    start: () => app.start(),
    async kill() {
      scheduler.alive = false;
      heard.resolve();
      await app[Symbol.asyncDispose]();
    },
  };
  return scheduler;
}

/** The store as one scheduler has it: calls take time, and some lose their answer. */
function faulty({ state, clock, random, scenario }: SchedulerOptions): State {
  const call = async <T>(work: () => Promise<T>): Promise<T> => {
    await clock.sleep(random() * 3);
    const lost = random() < scenario.storeFaultShare;
    const unavailable = () => new DrawbridgeError("STATE_UNAVAILABLE", "The network lost it.");
    if (lost && random() < 0.5) throw unavailable();
    const result = await work();
    if (lost) throw unavailable();
    return result;
  };
  return {
    ...state,
    leases: {
      ...state.leases,
      acquire: (request) => call(() => state.leases.acquire(request)),
      settle: (outcome, now) => call(() => state.leases.settle(outcome, now)),
    },
    breakers: {
      ...state.breakers,
      compareAndSet: (breaker) => call(() => state.breakers.compareAndSet(breaker)),
    },
  };
}
