// Real controllers under a virtual clock, two at a time on one store: many seeds of accounts that change, credits that go and return, workers
// that die, hang, feel ill or never start, drivers that fail or are slow, lost hints, broken streams, a store that is emptied, and leaders that are killed, stopped in
// their tracks beyond their lease, or ended. After four minutes of it everything becomes well, and what is wanted has to come about.
//
//   SIMULATION_SEEDS=5000   how many seeds (default 300)
//   SIMULATION_SEED=17      one seed, with its trace
import { expect, test } from "vitest";
import { resyncsMax, simulate } from "./simulate.ts";

const one = process.env["SIMULATION_SEED"];
const count = Number(process.env["SIMULATION_SEEDS"] ?? 300);
const seeds = one === undefined ? Array.from({ length: count }, (_, index) => index + 1) : [Number(one)];

test(
  `nothing wanted is taken away, one leader acts at a time, and ${resyncsMax} resyncs without a fault suffice`,
  async () => {
    const totals = { actions: 0, refused: 0, resyncs: 0 };
    for (const seed of seeds) {
      const { violation, trace, actions, refused, resyncs } = await simulate(seed);
      if (violation !== undefined || one !== undefined) process.stdout.write(`${trace.join("\n")}\n`);
      expect(violation, `seed ${seed}; SIMULATION_SEED=${seed} runs it again`).toBeUndefined();
      totals.actions += actions;
      totals.refused += refused;
      totals.resyncs = Math.max(totals.resyncs, resyncs);
    }
    process.stdout.write(`${seeds.length} seeds: ${JSON.stringify(totals)}\n`);
    if (seeds.length > 1) expect(totals.actions).toBeGreaterThan(seeds.length * 10);
  },
  Math.max(60_000, seeds.length * 2_000),
);
