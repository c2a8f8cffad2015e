// What only time shows: very many streams held open, and hours of load in short. Asked for by name, for the product alone.
import { setTimeout as sleep } from "node:timers/promises";
import type { Contender } from "./contenders/contender.ts";
import { residentKib, sum } from "./cpu.ts";
import { createLoadGenerator, type LoadGenerator } from "./load/client.ts";
import type { LoadPlan } from "./load/plan.ts";
import { planFor, quantile, slotsNeeded, warmUpPlan } from "./scenarios.ts";

type Say = (text: string) => void;

/** A line of what was seen at a moment. */
export interface Observation {
  readonly minute: number;
  readonly megabytes: Readonly<Record<string, number>>;
  readonly [figure: string]: unknown;
}

export interface Endurance {
  readonly name: string;
  readonly observations: readonly Observation[];
  readonly failures: number;
  readonly firstFailure: string | undefined;
}

const minuteMs = 60_000;
const streamsPerSecond = 100;
const streamsPerLoad = 2_500;

function megabytes(contender: Contender): Record<string, number> {
  const parts = Object.entries(contender.processes().own);
  return Object.fromEntries(parts.map(([part, pids]) => [part, Math.round(sum(pids, residentKib) / 1_024)]));
}

/** Opens the streams evenly, holds them, and looks once a minute. */
export async function holdStreams(
  contender: Contender,
  streams: number,
  minutes: number,
  say: Say,
): Promise<Endurance> {
  await using stack = new AsyncDisposableStack();
  const observations: Observation[] = [];
  const observe = (minute: number, open: number) => {
    const observation = { minute, open, megabytes: megabytes(contender) };
    observations.push(observation);
    say(JSON.stringify(observation));
  };
  observe(0, 0);
  const loads: LoadGenerator[] = [];
  for (let left = streams; left > 0; left -= streamsPerLoad) {
    const load = stack.use(createLoadGenerator());
    loads.push(load);
    await openStreams(contender, load, Math.min(left, streamsPerLoad));
  }
  const open = async () => {
    const counters = await Promise.all(loads.map((load) => load.sample()));
    return counters.reduce((total, each) => total + each.open, 0);
  };
  for (let minute = 0; minute <= minutes; minute += 1) {
    if (minute > 0) await sleep(minuteMs);
    observe(minute, await open());
  }
  const results = await Promise.all(loads.map((load) => load.stop(0)));
  return {
    name: `${streams} open streams for ${minutes} minutes`,
    observations,
    failures: results.reduce((total, each) => total + each.failures, 0),
    firstFailure: results.map((each) => each.firstFailure).find((each) => each !== undefined),
  };
}

async function openStreams(contender: Contender, load: LoadGenerator, streams: number): Promise<void> {
  const arrivals: LoadPlan["arrivals"] = {
    kind: "once",
    connections: streams,
    spreadMs: (streams / streamsPerSecond) * 1_000,
  };
  await load.start(planFor(contender, { chunks: 1, pauseMs: 0, hold: true }, true, arrivals));
  const giveUpAt = performance.now() + (streams / streamsPerSecond) * 1_000 + minuteMs;
  for (;;) {
    const { firstChunks, failures, firstFailure } = await load.sample();
    if (firstChunks >= streams) return;
    if (failures > 0 || performance.now() > giveUpAt) {
      throw new Error(`${firstChunks} of ${streams} streams are open. ${firstFailure ?? "The time is up."}`);
    }
    await sleep(200);
  }
}

const capacityWindowMs = 10_000;
const shareOfCapacity = 0.8;

/** Whole requests at 80 % of what the machine can do, in windows of a minute. */
export async function soak(contender: Contender, minutes: number, say: Say): Promise<Endurance> {
  await using load = createLoadGenerator();
  const prompt = { chunks: 20, pauseMs: 0, hold: false };
  await load.start(warmUpPlan(contender));
  await sleep(5_000);
  await load.stop(2_000);
  await load.start(planFor(contender, prompt, true, { kind: "closed", connections: 32 }));
  await sleep(capacityWindowMs);
  const capacity = (await load.stop(5_000)).requests / (capacityWindowMs / 1_000);
  const perSecond = Math.max(1, Math.floor(capacity * shareOfCapacity));
  say(`capacity ${capacity.toFixed(0)} streamed answers of 20 chunks a second; soak at ${perSecond}`);
  const observations: Observation[] = [];
  let failures = 0;
  let firstFailure: string | undefined;
  for (let minute = 1; minute <= minutes; minute += 1) {
    await load.start(planFor(contender, prompt, true, { kind: "open", perSecond, connections: slotsNeeded }));
    await sleep(minuteMs);
    const result = await load.stop(5_000);
    failures += result.failures;
    firstFailure ??= result.firstFailure;
    const sorted = result.firstChunkMicros.toSorted((a, b) => a - b);
    const ms = (share: number) => Number((quantile(sorted, share) / 1_000).toFixed(1));
    const observation = {
      minute,
      requests: result.requests,
      late: result.skipped,
      first_token_p50_ms: ms(0.5),
      first_token_p99_ms: ms(0.99),
      megabytes: megabytes(contender),
    };
    observations.push(observation);
    say(JSON.stringify(observation));
  }
  return { name: `${minutes} minutes at ${shareOfCapacity * 100} % of capacity`, observations, failures, firstFailure };
}
