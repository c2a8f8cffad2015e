// A controller as a process, for tests of leader election: on the store of its first argument it keeps one account's workers at what is wanted, through
// a driver that only writes down who acted: a line of JSON per action, appended to the file of its second argument. Its third and fourth argument are
// the leader's lease and the others' retry, in ms. It says when it has started.
import { appendFileSync } from "node:fs";
import { create } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import { AccountSpecSchema } from "#gen/drawbridge/v1/account";
import type { RegistryService } from "#gen/drawbridge/v1/registry_service";
import { createControllerApp } from "../../services/controller/app.ts";
import { controllerSettings } from "../../services/controller/config.ts";
import { systemClock } from "../../services/kit/clock.ts";
import { DrawbridgeError } from "../../services/kit/errors.ts";
import { silentLog } from "../../services/kit/log.ts";
import { systemRandom } from "../../services/kit/random.ts";
import { parseSettings } from "../../services/kit/settings.ts";
import { openState } from "../../services/state/open.ts";
import { silentDriver } from "./silent-driver.ts";

export interface RecordedAction {
  readonly epoch: number;
  readonly time: number;
  readonly pid: number;
}

const [, , stateUrl = "", file = "", leaseMs = "3000", retryMs = "100"] = process.argv;

/** Every worker is lost as soon as it is asked for, so there is always something to do. */
const driver = silentDriver({
  async create(_, epoch) {
    const action: RecordedAction = { epoch, time: Date.now(), pid: process.pid };
    appendFileSync(file, `${JSON.stringify(action)}\n`);
  },
});

async function* watchWorkers(_: object, { signal }: { readonly signal: AbortSignal }) {
  yield { element: { case: "snapshot", value: { workers: [] } } };
  await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
}

const settings = {
  resync: "50ms",
  event_gap: "10ms",
  health_interval: "100ms",
  leader_lease: `${leaseMs}ms`,
  leader_renew: `${Math.round(Number(leaseMs) / 4)}ms`,
  leader_retry: `${retryMs}ms`,
};

await using state = await openState(stateUrl, { log: silentLog });
await using app = createControllerApp({
  state,
  clock: systemClock,
  random: systemRandom,
  log: silentLog,
  config: parseSettings(controllerSettings, settings, "test"),
  agents: [],
  accounts: [create(AccountSpecSchema, { id: "a", agent: "demo", models: { m: "m" }, workers: { min: 1, max: 1 } })],
  profiles: ["demo"],
  registry: { watchWorkers } as unknown as Client<typeof RegistryService>,
  worker: () => {
    throw new DrawbridgeError("WORKER_UNREACHABLE", "There are no workers.");
  },
  driver,
  // As if each ran on a machine of its own: nobody can tell that a leader has ended but by its lease.
  identity: { owner: `controller-${process.pid}`, isGone: () => false },
});
await app.start();
process.stdout.write("started\n");
await new Promise((resolve) => process.once("SIGTERM", resolve));
