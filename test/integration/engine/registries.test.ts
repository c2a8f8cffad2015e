// Several registries on one Valkey are one registry: whoever is asked, and whichever a worker beats at.
import { randomBytes } from "node:crypto";
import type { Client } from "@connectrpc/connect";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { RegistryService, type WatchWorkersResponse } from "#gen/drawbridge/v1/registry_service";
import { systemClock } from "../../../services/kit/clock.ts";
import { silentLog } from "../../../services/kit/log.ts";
import { localClient } from "../../../services/kit/rpc/local.ts";
import { parseSettings } from "../../../services/kit/settings.ts";
import { createRegistryApp } from "../../../services/registry/app.ts";
import { registrySettings } from "../../../services/registry/config.ts";
import { openState } from "../../../services/state/open.ts";
import { worker } from "../../conformance/state/given.ts";
import { until } from "../../support/until.ts";
import { startValkeyProcess, type ValkeyProcess } from "../../support/valkey.ts";

const leaseMs = 1_500;
const config = parseSettings(
  registrySettings,
  { heartbeat_interval: "500ms", lease_ttl: `${leaseMs}ms`, prune_interval: "500ms", bookmark_interval: "300ms" },
  "the test",
);
const prefix = `${randomBytes(4).toString("hex")}:`;

const cleanUp = new AsyncDisposableStack();
let valkey: ValkeyProcess;
const registries: Client<typeof RegistryService>[] = [];

beforeAll(async () => {
  valkey = cleanUp.use(await startValkeyProcess());
  for (let i = 0; i < 3; i++) {
    const state = cleanUp.use(
      await openState(`valkey://127.0.0.1:${valkey.port}?prefix=${prefix}`, { log: silentLog }),
    );
    const app = cleanUp.use(createRegistryApp({ state, clock: systemClock, log: silentLog, config }));
    await app.start();
    registries.push(localClient(RegistryService, app.service));
  }
});
afterAll(() => cleanUp.disposeAsync());

/** What a watcher knows, kept by what it is told. */
function follow(registry: Client<typeof RegistryService>, signal: AbortSignal) {
  const known = new Map<string, number>();
  let bookmarks = 0;
  let removedAt = 0;
  const take = ({ element }: WatchWorkersResponse) => {
    if (element.case === "snapshot")
      for (const { id, pools } of element.value.workers) known.set(id, pools[0]?.availableSlots ?? 0);
    if (element.case === "put") known.set(element.value.id, element.value.pools[0]?.availableSlots ?? 0);
    if (element.case === "bookmark") bookmarks += 1;
    if (element.case === "removedWorkerId" && known.delete(element.value)) removedAt = Date.now();
  };
  const watching = (async () => {
    for await (const response of registry.watchWorkers({}, { signal })) take(response);
  })();
  watching.catch(() => {});
  return { known, bookmarks: () => bookmarks, removedAt: () => removedAt };
}

test("a worker that beats at any of them is known to the watchers of all, and its death is seen by all", async () => {
  const stop = new AbortController();
  const watchers = registries.map((registry) => follow(registry, stop.signal));
  const [one, two, three] = registries;
  const status = (availableSlots: number) => {
    const beating = worker();
    for (const pool of beating.pools) pool.availableSlots = availableSlots;
    return beating;
  };
  await one?.register({ worker: status(2) });
  await until("all know it", () => watchers.every(({ known }) => known.get("w") === 2));
  await two?.heartbeat({ worker: status(1) });
  await until("all know the change", () => watchers.every(({ known }) => known.get("w") === 1));
  await three?.heartbeat({ worker: status(0) });
  const lastBeat = Date.now();
  await until("all know the next change", () => watchers.every(({ known }) => known.get("w") === 0));
  await until("bookmarks come while nothing changes", () => watchers.every(({ bookmarks }) => bookmarks() > 0));
  // A worker that comes back is the same one.
  const first = (await two?.listWorkers({}))?.workers[0];
  await one?.register({ worker: status(0) });
  expect((await three?.listWorkers({}))?.workers).toMatchObject([{ id: "w", registeredAt: first?.registeredAt }]);
  await until("all see it dead", () => watchers.every(({ known }) => !known.has("w")));
  for (const { removedAt } of watchers) expect(removedAt()).toBeGreaterThanOrEqual(lastBeat + leaseMs);

  const client = new Redis({ host: "127.0.0.1", port: valkey.port });
  try {
    await until("no set of a model names it", async () => {
      const sets = await client.keys(`${prefix}model:*:pods`);
      const members = await Promise.all(sets.map((key) => client.smembers(key)));
      return members.flat().length === 0;
    });
  } finally {
    client.disconnect();
  }
  stop.abort();
});
