// Prints how evenly schedulers spread a load between two heartbeats, beside the usual ways to balance: `npm run bench:herding`.
import { fleet, type Herding, herdingOf, ourHerding, yardsticks } from "../simulation/scheduler/herding.ts";

const print = (line: string) => process.stdout.write(`${line}\n`);

const counts = [1, 2, 4, 8];
const seeds = [1, 2, 3, 4, 5];

/** The worst deviation, and the mean share of misplaced requests, over the seeds. */
async function worst(measure: (seed: number) => Promise<Herding>): Promise<Herding> {
  const results = await Promise.all(seeds.map(measure));
  return {
    deviation: Math.max(...results.map(({ deviation }) => deviation)),
    misplaced: results.reduce((sum, { misplaced }) => sum + misplaced, 0) / results.length,
  };
}

const percent = (share: number) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
const ways: [string, (schedulers: number, seed: number) => Promise<Herding>][] = [
  ["Drawbridge", ourHerding],
  ...Object.entries(yardsticks).map(
    ([name, choose]) =>
      [name, (schedulers: number, seed: number) => herdingOf(choose, schedulers, seed)] as [string, typeof ourHerding],
  ),
];

print(
  `${fleet.accounts} equal accounts of ${fleet.slots} slots, ${percent(fleet.utilisation)} busy, a heartbeat every ${fleet.heartbeatMs / 1_000} s, ` +
    `${fleet.intervals - 1} intervals, ${seeds.length} seeds.\n` +
    "Largest deviation from the ideal share in an interval; in brackets: requests given to a full account while another had a free slot.\n",
);
print(`| schedulers | ${counts.join(" | ")} |\n|---|${counts.map(() => "---|").join("")}`);
for (const [name, measure] of ways) {
  const cells: string[] = [];
  for (const count of counts) {
    const { deviation, misplaced } = await worst((seed) => measure(count, seed));
    cells.push(`${percent(deviation)} (${percent(misplaced)})`);
  }
  print(`| ${name} | ${cells.join(" | ")} |`);
}
process.exit(0);
