// How long after the end of a worker's lease a watcher of the registry is told, on Valkey.
import { setTimeout as sleep } from "node:timers/promises";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { RegistryService } from "#gen/drawbridge/v1/registry_service";
import { systemClock } from "../../services/kit/clock.ts";
import { silentLog } from "../../services/kit/log.ts";
import { localClient } from "../../services/kit/rpc/local.ts";
import { parseSettings } from "../../services/kit/settings.ts";
import { createRegistryApp } from "../../services/registry/app.ts";
import { registrySettings } from "../../services/registry/config.ts";
import { openState } from "../../services/state/open.ts";
import { worker } from "../conformance/state/given.ts";

const deaths = 50;
/** Workers come this far apart at most, so that their leases end at any time of a second. */
const apartMsMax = 150;

/** In ms, one for each death, smallest first. */
export async function measureDeaths(url: string): Promise<number[]> {
  await using stack = new AsyncDisposableStack();
  const config = parseSettings(registrySettings, { heartbeat_interval: "500ms", lease_ttl: "2s" }, "the benchmark");
  const state = stack.use(await openState(`${url}?prefix=deaths:`, { log: silentLog }));
  const app = stack.use(createRegistryApp({ state, clock: systemClock, log: silentLog, config }));
  await app.start();
  const registry = localClient(RegistryService, app.service);
  const ends = new Map<string, number>();
  const late: number[] = [];
  const watching = (async () => {
    for await (const { element } of registry.watchWorkers({})) {
      if (element.case === "put" && element.value.expiresAt)
        ends.set(element.value.id, timestampMs(element.value.expiresAt));
      if (element.case === "removedWorkerId") late.push(Date.now() - (ends.get(element.value) ?? Number.NaN));
      if (late.length === deaths) return;
    }
  })();
  for (let index = 0; index < deaths; index += 1) {
    await registry.register({ worker: worker({ id: `w${index}` }) });
    await sleep(Math.random() * apartMsMax);
  }
  await watching;
  return late.toSorted((a, b) => a - b);
}
