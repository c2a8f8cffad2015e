// `npm run bench:store`: what the embedded store costs the process that uses it, on a thread of its own and on the event loop: CPU a request's worth of
// operations, and how long the event loop stands still meanwhile. Prints a table; passes no judgement.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import type { Outcome } from "#gen/drawbridge/v1/usage";
import { silentLog } from "../../services/kit/log.ts";
import { openStore } from "../../services/state/embedded/store.ts";
import { openState } from "../../services/state/open.ts";
import type { State } from "../../services/state/state.ts";
import {
  admission,
  givenUser,
  lease,
  minuteMs,
  outcome,
  settlement,
  spec,
  t0,
  tier,
  usageOf,
} from "../conformance/state/given.ts";

const print = (text: string) => process.stdout.write(`${text}\n`);
const rounds = 3;
/** Long enough for checkpoints, which are made twice a second. */
const roundMs = 3_000;

const places: readonly { readonly name: string; readonly open: (path: string) => Promise<State> }[] = [
  {
    name: "on the loop",
    open: (path) => openStore({ path, onProblem: ({ error, text }) => print(`! ${text}: ${String(error)}`) }),
  },
  { name: "on a thread", open: (path) => openState(`sqlite:${path}`, { log: silentLog }) },
];

interface Cost {
  readonly perSecond: number;
  /** CPU a request, in µs: of the whole process, and of the thread with the event loop. */
  readonly processMicros: number;
  readonly loopMicros: number;
  /** How late the event loop was, in ms. */
  readonly delayP99: number;
  readonly delayMax: number;
}

let next = 0;

/** What a request does with the store, from its admission to both of its settlements, and to the worker's own report. */
async function request(state: State): Promise<void> {
  const id = `req_${next++}`;
  const done = outcome({ attemptId: id, requestId: id });
  await state.ledger.admit(admission({ requestId: id, holdMicros: 10, tokens: 1, tier: given.tier }));
  await state.leases.acquire(lease({ attemptId: id, requestId: id, millicredits: 1 }));
  await Promise.all([
    state.leases.settle(done, t0),
    report(state, done),
    state.ledger.settle(settlement({ requestId: id, costMicros: 5, usage: usageOf(10, 10) })),
  ]);
}

/** The worker's own report. */
async function report(state: State, done: Outcome): Promise<void> {
  await state.leases.settle(done, t0);
  await state.outcomes.record(done, minuteMs, t0);
}

const given = { tier: tier() };

async function measure(state: State, concurrency: number): Promise<Cost> {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  const begunAt = performance.now();
  const before = process.cpuUsage();
  const loopBefore = process.threadCpuUsage();
  delay.enable();
  let requests = 0;
  const lane = async () => {
    for (; performance.now() - begunAt < roundMs; requests += 1) {
      await request(state);
      // As between two requests of a client: the loop turns.
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  await Promise.all(Array.from({ length: concurrency }, lane));
  delay.disable();
  const all = process.cpuUsage(before);
  const loop = process.threadCpuUsage(loopBefore);
  return {
    perSecond: (requests * 1_000) / (performance.now() - begunAt),
    processMicros: (all.user + all.system) / requests,
    loopMicros: (loop.user + loop.system) / requests,
    delayP99: delay.percentile(99) / 1e6,
    delayMax: delay.max / 1e6,
  };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

async function run(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "drawbridge-bench-"));
  try {
    print(
      `\nThe operations of a request on SQLite, ${rounds} rounds of ${roundMs / 1_000} s, medians (delay: the worst).\n`,
    );
    print(
      "| the store | at once | requests/s | CPU a request, µs | of it the loop, µs | loop delay p99, ms | max, ms |",
    );
    print("|---|---|---|---|---|---|---|");
    for (const concurrency of [1, 32]) {
      for (const { name, open } of places) {
        await using state = await open(join(folder, `${name} ${concurrency}.db`));
        await givenUser(state, { quotaMicros: 1_000_000_000_000 });
        await state.accounts.create(spec({ initialMillicredits: 1_000_000_000n }), "api", t0);
        const costs: Cost[] = [];
        for (let round = 0; round <= rounds; round += 1) {
          const cost = await measure(state, concurrency);
          // The first one warms up.
          if (round > 0) costs.push(cost);
        }
        const middle = (of: (cost: Cost) => number) => median(costs.map(of));
        const cells = [
          middle((each) => each.perSecond).toFixed(0),
          middle((each) => each.processMicros).toFixed(0),
          middle((each) => each.loopMicros).toFixed(0),
          middle((each) => each.delayP99).toFixed(1),
          Math.max(...costs.map((each) => each.delayMax)).toFixed(1),
        ];
        print(`| ${name} | ${concurrency} | ${cells.join(" | ")} |`);
      }
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

await run();
