// For tests: the controller on the embedded store, with the registry, the process driver and worker processes without agents.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, type MessageInitShape, toJsonString } from "@bufbuild/protobuf";
import { type AccountSpec, AccountSpecSchema, WorkerSpecSchema } from "#gen/drawbridge/v1/account";
import { FleetService } from "#gen/drawbridge/v1/fleet_service";
import { RegistryService } from "#gen/drawbridge/v1/registry_service";
import { WorkerService } from "#gen/drawbridge/v1/worker_service";
import { type ControllerAppDependencies, createControllerApp } from "../../../services/controller/app.ts";
import { controllerSettings } from "../../../services/controller/config.ts";
import { createProcessDriver } from "../../../services/controller/drivers/process.ts";
import { systemClock } from "../../../services/kit/clock.ts";
import { silentLog } from "../../../services/kit/log.ts";
import { systemRandom } from "../../../services/kit/random.ts";
import { createDialer } from "../../../services/kit/rpc/client.ts";
import { internalTokenOnly } from "../../../services/kit/rpc/internal-token.ts";
import { localClient } from "../../../services/kit/rpc/local.ts";
import { mount, startRpcServer } from "../../../services/kit/rpc/server.ts";
import { parseSettings } from "../../../services/kit/settings.ts";
import { createRegistryApp } from "../../../services/registry/app.ts";
import { registrySettings } from "../../../services/registry/config.ts";
import { openState } from "../../../services/state/open.ts";
import type { State } from "../../../services/state/state.ts";
import { until } from "../../support/until.ts";

const token = "internal-token";
const entry = join(import.meta.dirname, "worker-program.ts");

let resources = new AsyncDisposableStack();

/** What a test started ends with it. */
export async function endFleets(): Promise<void> {
  await resources.disposeAsync();
  resources = new AsyncDisposableStack();
}

/** Ends with the fleets. */
export function use<Resource extends AsyncDisposable>(resource: Resource): Resource {
  return resources.use(resource);
}

export async function startFleet(
  settings: object = {},
  extra: Partial<ControllerAppDependencies> = {},
  before: (state: State, registryUrl: string) => Promise<void> = async () => {},
) {
  const directory = await mkdtemp(join(tmpdir(), "drawbridge-fleet-"));
  resources.defer(() => rm(directory, { recursive: true, force: true }));
  const common = { clock: systemClock, random: systemRandom, log: silentLog };
  const state = resources.use(await openState("sqlite::memory:", { log: silentLog }));
  const registryConfig = parseSettings(registrySettings, {}, "test");
  const registryApp = resources.use(createRegistryApp({ ...common, state, config: registryConfig }));
  const server = resources.use(
    await startRpcServer({
      listen: { host: "127.0.0.1", port: 0 },
      services: [mount(RegistryService, registryApp.service)],
      authorize: internalTokenOnly(token),
      ready: () => true,
      log: silentLog,
    }),
  );
  const dialer = resources.use(createDialer({ token }));
  const registryUrl = () => server.address;
  const driver = resources.use(
    createProcessDriver({ entry, registryUrl, token, directory, log: silentLog, clock: systemClock, graceMs: 3_000 }),
  );
  const config = parseSettings(
    controllerSettings,
    {
      resync: "1s",
      health_interval: "200ms",
      health_timeout: "500ms",
      leader_retry: "100ms",
      backoff: "200ms",
      registry_caution: "100ms",
      ...settings,
    },
    "test",
  );
  const dependencies: ControllerAppDependencies = {
    ...common,
    state,
    config,
    agents: [],
    profiles: ["demo", "kiro"],
    registry: localClient(RegistryService, registryApp.service),
    worker: (address) => dialer.client(WorkerService, address, { unreachable: "WORKER_UNREACHABLE" }),
    driver,
    ...extra,
  };
  const app = resources.use(createControllerApp(dependencies));
  await registryApp.start();
  await before(state, server.address);
  await app.start();
  const fleet = localClient(FleetService, app.service);
  return { fleet, state, driver, app, dependencies };
}

export type Fleet = Awaited<ReturnType<typeof startFleet>>["fleet"];

export function account(
  id: string,
  fields: Partial<Omit<MessageInitShape<typeof AccountSpecSchema>, "$typeName">> = {},
): AccountSpec {
  return create(AccountSpecSchema, {
    id,
    agent: "demo",
    models: { m: "m" },
    initialMillicredits: 10_000n,
    millicreditsPerRequest: 1_000n,
    slots: 2,
    queue: 4,
    workers: { min: 1, max: 1 },
    ...fields,
  });
}

/** Starts a worker without a driver; its exit. */
export function startByHand(spec: AccountSpec, registryUrl: string): Promise<unknown[]> {
  const child = spawn(process.execPath, [entry, "worker"], {
    stdio: ["pipe", "ignore", "inherit"],
    env: {
      PATH: process.env["PATH"],
      DRAWBRIDGE_WORKER_SPEC: toJsonString(
        WorkerSpecSchema,
        create(WorkerSpecSchema, { workerId: "by-hand", accounts: [spec] }),
      ),
      DRAWBRIDGE_REGISTRY_URL: registryUrl,
      DRAWBRIDGE_INTERNAL_TOKEN: token,
    },
  });
  resources.defer(() => void child.kill("SIGKILL"));
  return once(child, "exit");
}

export async function conditionsOf(fleet: Fleet, id: string): Promise<Record<string, boolean>> {
  const { account: found } = await fleet.getAccount({ id });
  return Object.fromEntries((found?.conditions ?? []).map(({ type, status }) => [type, status]));
}

export async function workersReady(fleet: Fleet, id: string, count: number) {
  return await until(`account ${id} is ready with ${count} workers`, async () => {
    const { workers } = await fleet.getStatus({});
    const mine = workers.filter(({ pools }) => pools.some(({ accountId }) => accountId === id));
    const { Ready } = await conditionsOf(fleet, id);
    return mine.length === count && (count === 0 || Ready) && mine;
  });
}
