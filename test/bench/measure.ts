// One measurement: load a contender, and look at counters and CPU at both ends of a window in the middle of it.
import { setTimeout as sleep } from "node:timers/promises";
import type { Contender } from "./contenders/contender.ts";
import { cpuMicros, preciseCpuMicros, sum } from "./cpu.ts";
import type { LoadGenerator } from "./load/client.ts";
import type { LoadPlan } from "./load/plan.ts";

export interface Window {
  readonly seconds: number;
  readonly requests: number;
  readonly chunks: number;
  /** CPU time of the contender's own processes, by part, in microseconds. */
  readonly ownMicros: Readonly<Record<string, number>>;
  /** CPU time of the agents, or of the upstream, in microseconds. */
  readonly farMicros: number;
  /** Sorted; see LoadResult. */
  readonly firstChunkMicros: readonly number[];
  readonly failures: number;
  readonly firstFailure: string | undefined;
  /** Requests that could not be begun when they were due. */
  readonly skipped: number;
}

export interface WindowOptions {
  readonly plan: LoadPlan;
  /** Load before the window, in ms. */
  readonly warmupMs: number;
  readonly windowMs: number;
  /** Time for open answers to end after the window, in ms; then they are hung up. */
  readonly stopWithinMs: number;
}

export async function measureWindow(
  contender: Contender,
  load: LoadGenerator,
  { plan, warmupMs, windowMs, stopWithinMs }: WindowOptions,
): Promise<Window> {
  const { own, far } = contender.processes();
  const look = async () => {
    const counters = await load.sample();
    const at = performance.now();
    const ownMicros = Object.entries(own).map(([part, pids]) => [part, sum(pids, preciseCpuMicros)] as const);
    return { counters, at, ownMicros, farMicros: sum(far, cpuMicros) };
  };
  await load.start(plan);
  await sleep(warmupMs);
  const before = await look();
  await sleep(windowMs);
  const after = await look();
  const result = await load.stop(stopWithinMs);
  return {
    seconds: (after.at - before.at) / 1_000,
    requests: after.counters.requests - before.counters.requests,
    chunks: after.counters.chunks - before.counters.chunks,
    ownMicros: Object.fromEntries(
      after.ownMicros.map(([part, micros], index) => [part, micros - (before.ownMicros[index]?.[1] ?? 0)]),
    ),
    farMicros: after.farMicros - before.farMicros,
    firstChunkMicros: result.firstChunkMicros
      .slice(before.counters.firstChunks, after.counters.firstChunks)
      .toSorted((a, b) => a - b),
    failures: result.failures,
    firstFailure: result.firstFailure,
    skipped: result.skipped,
  };
}
