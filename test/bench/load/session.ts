// Runs one load plan: opens connections, sends requests, counts what comes back.
import { chunkMark, ownMicrosOf } from "../prompt.ts";
import { type Connection, createConnection } from "./connection.ts";
import type { LoadCounters, LoadPlan, LoadResult } from "./plan.ts";

export interface LoadSession {
  counters(): LoadCounters;
  /** Begins nothing new, waits up to `withinMs` for what is open, hangs up the rest. */
  stop(withinMs: number): Promise<LoadResult>;
}

interface Lane {
  readonly connection: Connection;
  /** Of the request in flight. */
  chunks: number;
  /** The beginning of an answer that is not a good one. */
  refusal: string;
  sentAt: number;
  busy: boolean;
}

const mark = chunkMark.charCodeAt(0);
const pollMs = 5;
const refusalCharsMax = 300;

export function startLoad(plan: LoadPlan): LoadSession {
  const request = requestBytes(plan);
  const totals = { requests: 0, chunks: 0, open: 0, failures: 0, skipped: 0 };
  let firstFailure: string | undefined;
  const firstChunkMicros: number[] = [];
  let stopping = false;

  const createLane = (): Lane => {
    const lane: Lane = {
      chunks: 0,
      refusal: "",
      sentAt: 0,
      busy: false,
      connection: createConnection({ port: plan.port, onBody: (bytes, status) => read(lane, bytes, status) }),
    };
    return lane;
  };
  const lanes = Array.from({ length: plan.arrivals.connections }, createLane);

  const fail = (what: string) => {
    totals.failures += 1;
    firstFailure ??= what;
  };

  const read = (lane: Lane, bytes: Buffer, status: number) => {
    if (status !== 200) lane.refusal = (lane.refusal + bytes.toString("latin1")).slice(0, refusalCharsMax);
    let found = 0;
    for (let at = bytes.indexOf(mark); at !== -1; at = bytes.indexOf(mark, at + 1)) found += 1;
    if (found === 0) return;
    if (lane.chunks === 0) readFirstChunk(lane, bytes);
    lane.chunks += found;
    totals.chunks += found;
  };

  const readFirstChunk = (lane: Lane, bytes: Buffer) => {
    const elapsedMicros = (performance.now() - lane.sentAt) * 1_000;
    const own = ownMicrosOf(bytes.toString("latin1"));
    if (own === undefined) fail("The first chunk does not say how long it took.");
    else firstChunkMicros.push(Math.round(elapsedMicros - own));
  };

  const runOne = async (lane: Lane): Promise<void> => {
    lane.busy = true;
    lane.chunks = 0;
    lane.refusal = "";
    lane.sentAt = performance.now();
    totals.open += 1;
    try {
      const status = await lane.connection.exchange(request);
      if (status !== 200) fail(`Status ${status}: ${lane.refusal}`);
      else if (lane.chunks !== plan.chunksExpected) fail(`${lane.chunks} chunks instead of ${plan.chunksExpected}.`);
      else totals.requests += 1;
    } catch (error) {
      // After the end of a plan, open answers are hung up on purpose.
      if (!stopping) fail(String(error));
    } finally {
      totals.open -= 1;
      lane.busy = false;
    }
  };

  const runLane = async (lane: Lane): Promise<void> => {
    while (!stopping && totals.failures < 100) await runOne(lane);
  };

  const timers = begin(plan, lanes, { runLane, runOne, skip: () => (totals.skipped += 1) });
  const counters = (): LoadCounters => ({ ...totals, firstFailure, firstChunks: firstChunkMicros.length });
  return {
    counters,
    async stop(withinMs) {
      stopping = true;
      for (const timer of timers) clearInterval(timer);
      const giveUpAt = performance.now() + withinMs;
      while (totals.open > 0 && performance.now() < giveUpAt)
        await new Promise((resolve) => setTimeout(resolve, pollMs));
      for (const lane of lanes) lane.connection[Symbol.dispose]();
      while (totals.open > 0) await new Promise((resolve) => setTimeout(resolve, pollMs));
      return { ...counters(), firstChunkMicros };
    },
  };
}

interface Actions {
  runLane(lane: Lane): Promise<void>;
  runOne(lane: Lane): Promise<void>;
  skip(): void;
}

function begin({ arrivals }: LoadPlan, lanes: readonly Lane[], actions: Actions): NodeJS.Timeout[] {
  switch (arrivals.kind) {
    case "closed":
      for (const lane of lanes) void actions.runLane(lane);
      return [];
    case "once":
      return lanes.map((lane, index) =>
        setTimeout(() => void actions.runOne(lane), (arrivals.spreadMs * index) / lanes.length),
      );
    case "open":
      return [startClock(arrivals.perSecond, lanes, actions)];
  }
}

/** A timer that fires late makes up for it, so the rate holds. */
function startClock(perSecond: number, lanes: readonly Lane[], actions: Actions): NodeJS.Timeout {
  const startedAt = performance.now();
  let begun = 0;
  return setInterval(() => {
    const due = Math.floor(((performance.now() - startedAt) / 1_000) * perSecond);
    for (; begun < due; begun += 1) {
      const lane = lanes.find((each) => !each.busy);
      if (lane) void actions.runOne(lane);
      else actions.skip();
    }
  }, 1);
}

function requestBytes({ port, headers, body }: LoadPlan): Buffer {
  const head = [
    "POST /v1/chat/completions HTTP/1.1",
    `host: 127.0.0.1:${port}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    "content-type: application/json",
    `content-length: ${Buffer.byteLength(body)}`,
  ];
  return Buffer.from(`${head.join("\r\n")}\r\n\r\n${body}`);
}
