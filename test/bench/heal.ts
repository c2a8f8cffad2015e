// How long a fleet is without a worker that was killed: from SIGKILL until its replacement is registered and healthy, so that it is routed to.
// `up` with the process driver and its default settings; one account, one worker, an agent that starts at once. `npm run bench:heal [-- TIMES]`.
import { fleet } from "../support/fleet.ts";
import { startSystem } from "../support/system.ts";
import { until } from "../support/until.ts";

/** Between two kills, so that each worker counts as good and its successor starts at once (controller.stable_after). */
const stableAfterMs = 1_000;
const times = Number(process.argv[2] ?? 50);

await using system = await startSystem({
  configuration: fleet({ controller: { stable_after: `${stableAfterMs}ms` } }),
});
const spansMs: number[] = [];
for (let turn = 0; turn < times; turn++) {
  const healthy = async () => (await system.admin.workers()).filter((worker) => worker.health === "healthy");
  const [victim] = await healthy();
  if (!victim) throw new Error("No worker is healthy.");
  await new Promise((resolve) => setTimeout(resolve, stableAfterMs + 200));
  const killedAt = performance.now();
  process.kill(victim.pid, "SIGKILL");
  await until("another worker serves", async () => (await healthy()).some((worker) => worker.pid !== victim.pid), {
    everyMs: 5,
    timeoutMs: 60_000,
  });
  spansMs.push(performance.now() - killedAt);
}
const sorted = spansMs.toSorted((a, b) => a - b);
const seconds = (ms = 0) => `${(ms / 1_000).toFixed(2)} s`;
const median = sorted[Math.floor(sorted.length / 2)];
process.stdout.write(
  `kill -9 → replacement serving: median ${seconds(median)}, worst ${seconds(sorted.at(-1))}, of ${times}\n`,
);
