// What is measured: the load of each scenario, and the numbers that are made of a window of it.
import { benchmarkModel, type Contender } from "./contenders/contender.ts";
import type { LoadPlan } from "./load/plan.ts";
import type { Window, WindowOptions } from "./measure.ts";
import { type PromptPlan, promptText } from "./prompt.ts";

export interface Metric {
  readonly name: string;
  readonly unit: string;
  /** Shown and compared, or a part of another number that explains it. */
  readonly role: "main" | "part";
  readonly value: number;
}

export interface Scenario {
  readonly name: string;
  readonly title: string;
  /** `windowMs`: the length that was asked for. */
  window(contender: Contender, windowMs: number): WindowOptions;
  metrics(window: Window): Metric[];
}

/** Slots that the scenarios below need. */
export const slotsNeeded = 50;

export const scenarios: readonly Scenario[] = [
  wholeRequests(1),
  wholeRequests(32),
  {
    name: "chunk-saturated",
    title: "streamed chunks, 32 streams, no pause",
    window: (contender, windowMs) => ({
      plan: planFor(contender, { chunks: 2_000, pauseMs: 0, hold: false }, true, { kind: "closed", connections: 32 }),
      warmupMs: 700,
      windowMs,
      stopWithinMs: 8_000,
    }),
    metrics: (window) => [
      { name: "chunks a second", unit: "/s", role: "main", value: window.chunks / window.seconds },
      ...cpuMetrics(window, "chunk", window.chunks),
    ],
  },
  {
    name: "chunk-paced",
    title: "streamed chunks, 50 streams, one every 20 ms",
    window: pacedWindow,
    metrics: (window) => cpuMetrics(window, "chunk", window.chunks),
  },
  {
    name: "first-token",
    title: "time to first token over the far end's own, 100 streams a second",
    window: (contender, windowMs) => ({
      plan: planFor(contender, { chunks: 5, pauseMs: 10, hold: false }, true, {
        kind: "open",
        perSecond: 100,
        connections: slotsNeeded,
      }),
      warmupMs: 500,
      windowMs,
      stopWithinMs: 2_000,
    }),
    metrics: ({ firstChunkMicros }) => [
      { name: "p50", unit: "ms", role: "main", value: quantile(firstChunkMicros, 0.5) / 1_000 },
      { name: "p99", unit: "ms", role: "main", value: quantile(firstChunkMicros, 0.99) / 1_000 },
    ],
  },
];

/** Load before anything is measured, so that programs are compiled and connections are open. */
export function warmUpPlan(contender: Contender): LoadPlan {
  return planFor(contender, { chunks: 20, pauseMs: 0, hold: false }, true, { kind: "closed", connections: 32 });
}

function wholeRequests(concurrency: number): Scenario {
  return {
    name: `request-${concurrency}`,
    title: `whole requests, ${concurrency} at a time, answers of one chunk`,
    window: (contender, windowMs) => ({
      plan: planFor(contender, { chunks: 1, pauseMs: 0, hold: false }, false, {
        kind: "closed",
        connections: concurrency,
      }),
      warmupMs: 500,
      windowMs,
      stopWithinMs: 2_000,
    }),
    metrics: (window) => [
      { name: "requests a second", unit: "/s", role: "main", value: window.requests / window.seconds },
      ...cpuMetrics(window, "request", window.requests),
    ],
  };
}

/** The streams begin before the window and end after it, so that it holds chunks and nothing else. */
function pacedWindow(contender: Contender, windowMs: number): WindowOptions {
  const pauseMs = 20;
  const warmupMs = 800;
  const marginMs = 400;
  const chunks = Math.ceil((warmupMs + windowMs + marginMs) / pauseMs);
  return {
    plan: planFor(contender, { chunks, pauseMs, hold: false }, true, {
      kind: "once",
      connections: 50,
      spreadMs: 200,
    }),
    warmupMs,
    windowMs,
    stopWithinMs: 3_000,
  };
}

export function planFor(
  contender: Contender,
  prompt: PromptPlan,
  stream: boolean,
  arrivals: LoadPlan["arrivals"],
): LoadPlan {
  return {
    port: contender.port,
    headers: contender.headers,
    body: JSON.stringify({
      model: benchmarkModel,
      stream,
      messages: [{ role: "user", content: promptText(prompt) }],
    }),
    arrivals,
    chunksExpected: prompt.hold ? undefined : prompt.chunks,
  };
}

function cpuMetrics(window: Window, per: string, count: number): Metric[] {
  const parts = Object.entries(window.ownMicros);
  const whole = parts.reduce((total, [, micros]) => total + micros, 0);
  const of = (micros: number) => micros / count;
  return [
    { name: `CPU a ${per}`, unit: "µs", role: "main", value: of(whole) },
    ...(parts.length > 1
      ? parts.map(([part, micros]): Metric => ({ name: `of it ${part}`, unit: "µs", role: "part", value: of(micros) }))
      : []),
    { name: `far end's CPU a ${per}, apart`, unit: "µs", role: "part", value: of(window.farMicros) },
  ];
}

/** Of sorted values. */
export function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}
