// A running system on a Cluster of which one node after another hangs: whoever needs it is told to come back at once, streams go on, and the books
// balance afterwards.
import { afterAll, beforeAll, expect, test } from "vitest";
import { words } from "../support/fleet.ts";
import { type SplitSystem, startSplitSystem } from "../support/split-system.ts";
import { configuration, expectBooks, knock, read, serves } from "../support/store-failures.ts";
import { until } from "../support/until.ts";
import { startValkeyCluster, type ValkeyCluster } from "../support/valkey.ts";

const cleanUp = new AsyncDisposableStack();
let cluster: ValkeyCluster;
let system: SplitSystem;
/** Answers that clients got. */
let answered = 0;

beforeAll(async () => {
  cluster = cleanUp.use(await startValkeyCluster({ requireFullCoverage: false }));
  system = cleanUp.use(await startSplitSystem({ state: cluster.url, configuration }));
});
afterAll(() => cleanUp.disposeAsync());

test.each([0, 1, 2])("master %i hangs: streams go on, requests are served or told to come back", async (index) => {
  const streams = Array.from({ length: 3 }, () => read(system, 50, 100));
  await until("all streams have begun", () => streams.every((stream) => stream.seen() > 3));
  cluster.masters[index]?.pause();
  try {
    // One after another: waiting for a time-out each, they would take minutes.
    for (let time = 0; time < 100; time += 1) {
      const { status, retryAfter } = await knock(system);
      if (status === 200) answered += 1;
      else
        expect({ status, retryAfter }).toEqual({ status: 503, retryAfter: expect.stringMatching(/^\d+$/) as string });
    }
    for (const stream of streams) expect(await stream.text).toBe(words(50));
    answered += streams.length;
  } finally {
    cluster.masters[index]?.resume();
  }
  await serves(system);
  answered += 1;
});

test("afterwards, each answer is paid once, and the books balance", () => expectBooks(system, answered));
