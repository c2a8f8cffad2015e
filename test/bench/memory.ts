// Resident memory for each open stream that has begun and says nothing.
import { setTimeout as sleep } from "node:timers/promises";
import type { Contender } from "./contenders/contender.ts";
import { residentKib, sum } from "./cpu.ts";
import { createLoadGenerator, type LoadGenerator } from "./load/client.ts";
import { type Metric, planFor } from "./scenarios.ts";

export const memoryScenario = {
  name: "memory",
  title: "memory of open idle streams, RSS over that of the same processes without them",
} as const;

export const streamsMax = 1_000;
const streamsFirst = 200;
const settleMs = 1_500;
const openWithinMs = 30_000;

export interface MemoryResult {
  readonly metrics: readonly Metric[];
  readonly failures: number;
  readonly firstFailure: string | undefined;
}

/**
 * Requests first, so that code and buffers that stay are there before the first look; then 200 streams, then 800 more. Each has had its
 * first chunk and holds a slot with an agent process of its own, which runs before and is not counted.
 */
export async function measureMemory(contender: Contender): Promise<MemoryResult> {
  await using stack = new AsyncDisposableStack();
  const loads = [stack.use(createLoadGenerator()), stack.use(createLoadGenerator())] as const;
  await warmUp(contender, loads[0]);
  const before = residentByPart(contender);
  await openStreams(contender, loads[0], streamsFirst);
  const first = residentByPart(contender);
  await openStreams(contender, loads[1], streamsMax - streamsFirst);
  const most = residentByPart(contender);
  const results = await Promise.all(loads.map((load) => load.stop(0)));
  return {
    metrics: [
      { name: "before", unit: "MiB", role: "part", value: total(before) / 1_024 },
      ...perStream(`a stream, ${streamsFirst} open`, before, first, streamsFirst),
      ...perStream(`a stream, ${streamsMax} open`, before, most, streamsMax),
      ...perStream(`a stream, of the ${streamsMax - streamsFirst} between`, first, most, streamsMax - streamsFirst),
    ],
    failures: results.reduce((sofar, each) => sofar + each.failures, 0),
    firstFailure: results.map((each) => each.firstFailure).find((each) => each !== undefined),
  };
}

async function warmUp(contender: Contender, load: LoadGenerator): Promise<void> {
  const prompt = { chunks: 1, pauseMs: 0, hold: false };
  await load.start(planFor(contender, prompt, true, { kind: "closed", connections: 50 }));
  await sleep(2_000);
  await load.stop(5_000);
  await sleep(settleMs);
}

async function openStreams(contender: Contender, load: LoadGenerator, streams: number): Promise<void> {
  const prompt = { chunks: 1, pauseMs: 0, hold: true };
  await load.start(planFor(contender, prompt, true, { kind: "once", connections: streams, spreadMs: streams * 2 }));
  const giveUpAt = performance.now() + openWithinMs;
  for (;;) {
    const { firstChunks, failures, firstFailure } = await load.sample();
    if (firstChunks >= streams) break;
    if (failures > 0 || performance.now() > giveUpAt) {
      throw new Error(
        `${firstChunks} of ${streams} streams are open at ${contender.name}. ${firstFailure ?? "The time is up."}`,
      );
    }
    await sleep(50);
  }
  await sleep(settleMs);
}

type Resident = Readonly<Record<string, number>>;

function residentByPart(contender: Contender): Resident {
  const parts = Object.entries(contender.processes().own);
  return Object.fromEntries(parts.map(([part, pids]) => [part, sum(pids, residentKib)]));
}

function total(resident: Resident): number {
  return Object.values(resident).reduce((sofar, each) => sofar + each, 0);
}

function perStream(name: string, from: Resident, to: Resident, streams: number): Metric[] {
  const parts = Object.keys(to);
  return [
    { name, unit: "KiB", role: "main", value: (total(to) - total(from)) / streams },
    ...(parts.length > 1
      ? parts.map((part): Metric => {
          const value = ((to[part] ?? 0) - (from[part] ?? 0)) / streams;
          return { name: `of it ${part}, ${name.replace("a stream, ", "")}`, unit: "KiB", role: "part", value };
        })
      : []),
  ];
}
