// How long a pick takes, and whether it allocates, by the number of accounts: `npm run bench:pick`. A turn is what a request does to the view: pick the best
// candidate, take a place there, and give it back when its lease is over.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { create } from "@bufbuild/protobuf";
import { AccountSchema } from "#gen/drawbridge/v1/account";
import { Health, WorkerSchema } from "#gen/drawbridge/v1/worker";
import { systemClock } from "../../services/kit/clock.ts";
import { systemRandom } from "../../services/kit/random.ts";
import { schedulerSettings } from "../../services/scheduler/config.ts";
import type { Candidate } from "../../services/scheduler/fleet/candidate.ts";
import type { ModelIndex } from "../../services/scheduler/fleet/model-index.ts";
import { createView, type View } from "../../services/scheduler/fleet/view.ts";

const print = (line: string) => process.stdout.write(`${line}\n`);

const sizes = [10, 1_000, 10_000, 100_000];
const rounds = 5;
const roundMs = 300;

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

function viewOf(accounts: number): View {
  const view = createView({ settings: schedulerSettings.parse({}), clock: systemClock, random: systemRandom });
  const ids = Array.from({ length: accounts }, (_, index) => `a${index}`);
  view.setAccounts(
    ids.map((id) =>
      create(AccountSchema, {
        spec: { id, models: { m: "m" }, millicreditsPerRequest: 1_000n },
        credits: { available: BigInt(1_000_000 + Math.floor(Math.random() * 1_000) * 1_000) },
        revision: 1n,
      }),
    ),
    [],
  );
  view.setWorkers(
    ids.map((id) => {
      const pool = { accountId: id, models: ["m"], slots: 8, availableSlots: 8, health: Health.HEALTHY };
      return create(WorkerSchema, { id, incarnation: "i", address: "w", revision: 1n, pools: [pool] });
    }),
  );
  return view;
}

const nobody: string[] = [];
const untried: Candidate[] = [];

function pick(index: ModelIndex, now: number): Candidate {
  const candidate = index.best(nobody, untried, now);
  if (!candidate) throw new Error("a fleet without load has a candidate");
  return candidate;
}

/** Runs `work` for a while; ns for one, and bytes that one allocated. */
function measure(work: (times: number) => void): { ns: number; bytes: number } {
  let times = 1;
  for (let spent = 0; spent < roundMs / 10; times *= 2) {
    const start = performance.now();
    work(times);
    spent = performance.now() - start;
  }
  times *= 4;
  const results = Array.from({ length: rounds }, () => {
    collectGarbage();
    const before = process.memoryUsage().heapUsed;
    const start = process.hrtime.bigint();
    work(times);
    const ns = Number(process.hrtime.bigint() - start) / times;
    return { ns, bytes: (process.memoryUsage().heapUsed - before) / times };
  });
  return results.sort((a, b) => a.ns - b.ns)[Math.floor(rounds / 2)] ?? { ns: 0, bytes: 0 };
}

function scan(candidates: readonly Candidate[]): Candidate | undefined {
  let found: Candidate | undefined;
  let most = -1;
  for (const candidate of candidates) {
    const free = candidate.slots - candidate.known;
    const score = candidate.account.millicredits * (free + 1);
    if (free > 0 && score > most) [found, most] = [candidate, score];
  }
  return found;
}

print(
  "| accounts | pick, ns | picks/s | bytes a pick | pick, take and give back, ns | a scan instead, ns |\n|---|---|---|---|---|---|",
);
let kept: Candidate | undefined;
for (const size of sizes) {
  const view = viewOf(size);
  const index = view.model("m") as ModelIndex;
  const now = Date.now();
  const picks = measure((times) => {
    for (let turn = 0; turn < times; turn += 1) kept = pick(index, now);
  });
  const turns = measure((times) => {
    for (let turn = 0; turn < times; turn += 1) {
      const candidate = pick(index, now);
      view.beginClaim(candidate);
      view.endClaim(candidate, "attempt", 1);
      view.endLease(candidate, "attempt");
    }
  });
  const candidates = index.candidates;
  const scans = measure((times) => {
    for (let turn = 0; turn < times; turn += 1) kept = scan(candidates);
  });
  const columns = [
    size.toLocaleString("en"),
    picks.ns.toFixed(0),
    Math.round(1e9 / picks.ns).toLocaleString("en"),
    picks.bytes.toFixed(2),
    turns.ns.toFixed(0),
    scans.ns.toFixed(0),
  ];
  print(`| ${columns.join(" | ")} |`);
  view[Symbol.dispose]();
}
process.exitCode = kept ? 0 : 1;
