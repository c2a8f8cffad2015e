// How long a client waits before it connects to a store again: longer each time, up to a bound, and not all clients the same.
import type { Cluster, Redis } from "ioredis";
import { expect, test } from "vitest";
import { parseStoreAddress } from "../../../services/state/valkey/address.ts";
import { createCommandClient } from "../../../services/state/valkey/clients.ts";
import { seededRandom } from "../../support/seeded-random.ts";

type Pause = (times: number) => number;

/** The pauses of a client that does not connect in this test. */
function pausesOf(url: string, random: () => number): Pause[] {
  const client = createCommandClient(parseStoreAddress(url), "gateway:1:commands", random);
  const { options } = client as Redis;
  client.disconnect();
  if (client.isCluster) {
    const { clusterRetryStrategy, redisOptions } = (client as Cluster & { options: ClusterPauses }).options;
    expect(redisOptions.connectionName).toBe("gateway:1:commands");
    return [clusterRetryStrategy];
  }
  expect(options.connectionName).toBe("gateway:1:commands");
  return [options.retryStrategy, ...(url.includes("sentinel") ? [options.sentinelRetryStrategy] : [])] as Pause[];
}

interface ClusterPauses {
  readonly clusterRetryStrategy: Pause;
  readonly redisOptions: { readonly connectionName: string };
}

test.each(["valkey://h:1", "valkey+sentinel://h:1/main", "valkey+cluster://h:1"])("%s", (url) => {
  const longest = pausesOf(url, () => 1);
  const shortest = pausesOf(url, () => 0);
  for (const [index, pause] of longest.entries()) {
    const pauses = [1, 2, 3, 4, 5, 6, 7, 20, 1_000].map(pause);
    expect(pauses).toEqual([50, 100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000]);
    expect(shortest[index]?.(7)).toBe(1_000);
  }
  const random = seededRandom(1);
  const ofMany = Array.from({ length: 100 }, () => pausesOf(url, random)[0]?.(7));
  expect(new Set(ofMany).size).toBeGreaterThan(90);
});
