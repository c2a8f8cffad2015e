// How long what was killed is missed. `npm run bench:heal [-- TIMES]` and `npm run bench:heal -- --leaders [TIMES]`.
//
// Workers: from SIGKILL until a worker's replacement is registered and healthy, so that it is routed to. `up` with the process driver and its
// default settings; one account, one worker, an agent that starts at once.
// Leaders: three controllers on one Valkey. From the end of a killed leader's lease, and from the SIGTERM of one that stops, until another acts.
import { openState } from "../../services/state/open.ts";
import { silentLog } from "../../services/kit/log.ts";
import { fleet } from "../support/fleet.ts";
import { startLeaderContest } from "../support/leader-contest.ts";
import { startSystem } from "../support/system.ts";
import { until } from "../support/until.ts";
import { startValkeyProcess } from "../support/valkey.ts";

/** Between two kills, so that each worker counts as good and its successor starts at once (controller.stable_after). */
const stableAfterMs = 1_000;
const leaseMs = 3_000;
/** The default of controller.leader_retry: what those who wait would need if nothing told them sooner. */
const retryMs = 5_000;

function report(what: string, spansMs: readonly number[]): void {
  const sorted = spansMs.toSorted((a, b) => a - b);
  const seconds = (ms = 0) => `${(ms / 1_000).toFixed(2)} s`;
  const median = sorted[Math.floor(sorted.length / 2)];
  process.stdout.write(`${what}: median ${seconds(median)}, worst ${seconds(sorted.at(-1))}, of ${spansMs.length}\n`);
}

async function measureWorkers(times: number): Promise<void> {
  await using system = await startSystem({
    configuration: fleet({ controller: { stable_after: `${stableAfterMs}ms` } }),
  });
  const healthy = async () => (await system.admin.workers()).filter((worker) => worker.health === "healthy");
  const spansMs: number[] = [];
  for (let turn = 0; turn < times; turn++) {
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
  report("kill -9 of a worker → its replacement serves", spansMs);
}

async function measureLeaders(times: number): Promise<void> {
  await using valkey = await startValkeyProcess();
  const stateUrl = `valkey://127.0.0.1:${valkey.port}`;
  await using state = await openState(stateUrl, { log: silentLog });
  await using contest = await startLeaderContest({ stateUrl, controllers: 3, leaseMs, retryMs });
  const afterLease: number[] = [];
  const afterStop: number[] = [];
  let leader = await contest.leaderAfter(0);
  for (let turn = 0; turn < times; turn++) {
    leader.child.kill("SIGKILL");
    const killedAt = Date.now();
    const leftMs = (await state.leader.current(killedAt))?.leftMs ?? 0;
    leader = await contest.leaderAfter(leader.epoch);
    afterLease.push(leader.first.time - (killedAt + leftMs));
    await contest.add();

    const stoppedAt = Date.now();
    leader.child.kill("SIGTERM");
    leader = await contest.leaderAfter(leader.epoch);
    afterStop.push(leader.first.time - stoppedAt);
    await contest.add();
  }
  report("kill -9 of a leader: the end of its lease → another acts", afterLease);
  report("SIGTERM of a leader → another acts", afterStop);
}

const [first, second] = process.argv.slice(2);
if (first === "--leaders") await measureLeaders(Number(second ?? 30));
else await measureWorkers(Number(first ?? 50));
