// Real schedulers under a virtual clock: many seeds of fleets, arrivals, deaths, stale views, lost and reordered words, between 1 and 8 schedulers.
//
//   SIMULATION_SEEDS=5000   how many seeds (default 150)
//   SIMULATION_SEED=17      one seed, with its trace
import { expect, test } from "vitest";
import { simulate } from "./world.ts";

const one = process.env["SIMULATION_SEED"];
const count = Number(process.env["SIMULATION_SEEDS"] ?? 150);
const seeds = one === undefined ? Array.from({ length: count }, (_, index) => index + 1) : [Number(one)];

test(
  "no overspending, no lost lease, no starvation, breakers by their rules: whatever happens",
  async () => {
    const totals = { requests: 0, answered: 0, refused: 0 };
    for (const seed of seeds) {
      const { violation, trace, requests, answered, refused } = await simulate(seed);
      if (violation !== undefined || one !== undefined) process.stdout.write(`${trace.join("\n")}\n`);
      expect(violation, `seed ${seed}; SIMULATION_SEED=${seed} runs it again`).toBeUndefined();
      totals.requests += requests;
      totals.answered += answered;
      totals.refused += refused;
    }
    process.stdout.write(`${seeds.length} seeds: ${JSON.stringify(totals)}\n`);
    expect(totals.answered).toBeGreaterThan(totals.requests / 4);
  },
  Math.max(60_000, seeds.length * 2_000),
);

test("a seed is the same run every time", async () => {
  const [first, second] = [await simulate(7), await simulate(7)];
  expect(second).toEqual(first);
});
