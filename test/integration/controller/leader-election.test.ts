// Controllers as processes on one Valkey: the leader is killed, stopped in its tracks beyond its lease, ended, or its Valkey fails over. By what their
// driver wrote down, two never act at once.
import { expect, test } from "vitest";
import type { RecordedAction } from "../../support/contending-controller.ts";
import { startLeaderContest } from "../../support/leader-contest.ts";
import { until } from "../../support/until.ts";
import { startValkeyProcess, startValkeySentinels } from "../../support/valkey.ts";

const leaseMs = 3_000;
/** Far beyond what is waited for here: the others must know by themselves when to try. */
const seldomMs = 600_000;
const oftenMs = 500;

/** Lines are in the order in which the driver heard them. */
function expectOneAtATime(actions: readonly RecordedAction[]): void {
  const epochs = actions.map(({ epoch }) => epoch);
  expect(epochs).toEqual(epochs.toSorted((a, b) => a - b));
  for (const [epoch, same] of Map.groupBy(actions, (action) => action.epoch)) {
    expect(new Set(same.map(({ pid }) => pid)).size, `processes that acted in epoch ${epoch}`).toBe(1);
  }
}

test.each([2, 3, 5])("%i controllers: killed, stopped beyond its lease and resumed, ended", async (count) => {
  await using valkey = await startValkeyProcess();
  const stateUrl = `valkey://127.0.0.1:${valkey.port}`;
  await using contest = await startLeaderContest({ stateUrl, controllers: count, leaseMs, retryMs: seldomMs });
  const { leaderAfter, actions, add } = contest;
  const first = await leaderAfter(0);

  first.child.kill("SIGKILL");
  const second = await leaderAfter(first.epoch, leaseMs + 10_000);
  expect(second.child.pid).not.toBe(first.child.pid);
  await add();

  second.child.kill("SIGSTOP");
  const third = await leaderAfter(second.epoch, leaseMs + 10_000);
  second.child.kill("SIGCONT");
  const resumedAt = (await actions()).length;
  await until("the third goes on", async () => (await actions()).length > resumedAt + 2);

  third.child.kill("SIGTERM");
  await leaderAfter(third.epoch);
  expectOneAtATime(await actions());
});

test.each([2, 3, 5])("%i controllers while Valkey fails over", async (count) => {
  await using valkey = await startValkeySentinels();
  await using contest = await startLeaderContest({
    stateUrl: valkey.url,
    controllers: count,
    leaseMs,
    retryMs: oftenMs,
  });
  const { leaderAfter, actions } = contest;
  const first = await leaderAfter(0);
  await valkey.master.kill();
  const failedOverAt = Date.now();
  await until(
    "somebody acts on the new master",
    async () => ((await actions()).at(-1)?.time ?? 0) > failedOverAt + leaseMs,
    {
      timeoutMs: 60_000,
    },
  );
  const now = (await actions()).at(-1)?.epoch ?? 0;
  expect(now).toBeGreaterThanOrEqual(first.epoch);
  expectOneAtATime(await actions());
});
