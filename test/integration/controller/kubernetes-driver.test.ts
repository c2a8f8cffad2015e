// The kubernetes driver against a cluster that speaks the API, allows what deploy/kubernetes allows, and runs real processes.
import { readFileSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, fromJsonString } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { parseAllDocuments } from "yaml";
import { KubernetesSecretKeySchema, WorkerSpecSchema } from "#gen/drawbridge/v1/account";
import { kubernetesSettings } from "../../../services/controller/drivers/config.ts";
import type { WorkerExit } from "../../../services/controller/drivers/driver.ts";
import { permissions } from "../../../services/controller/drivers/kubernetes/api.ts";
import {
  createKubernetesDriver,
  type KubernetesDriverOptions,
} from "../../../services/controller/drivers/kubernetes/driver.ts";
import { type Clock, systemClock } from "../../../services/kit/clock.ts";
import { createLog, silentLog } from "../../../services/kit/log.ts";
import { systemRandom } from "../../../services/kit/random.ts";
import { parseSettings } from "../../../services/kit/settings.ts";
import { type KubernetesApi, namespace, type Rule, startKubernetesApi } from "../../support/kubernetes-api.ts";
import { until } from "../../support/until.ts";
import { driverContract, workerSpec } from "./driver-contract.ts";

const program = join(import.meta.dirname, "contract-worker.ts");
const unaborted = new AbortController().signal;
const documents = parseAllDocuments(
  readFileSync(join(import.meta.dirname, "../../../deploy/kubernetes/rbac.yaml"), "utf8"),
).map((document) => document.toJS() as { kind: string; rules: readonly Rule[] });
const rules = documents.find(({ kind }) => kind === "Role")?.rules ?? [];
const secrets = { drawbridge: { DRAWBRIDGE_INTERNAL_TOKEN: "internal", SEAT_KEY: "s3cret", OTHER: "other" } };

const start = () => startKubernetesApi({ program, rules, secrets });

function driverOf(api: KubernetesApi, settings: object = {}, options: Partial<KubernetesDriverOptions> = {}) {
  return createKubernetesDriver({
    config: api.config(),
    namespace,
    settings: parseSettings(kubernetesSettings, settings, "test"),
    registryUrl: () => "http://127.0.0.1:7071",
    drainGraceMs: 600_000,
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
    terminateMs: 200,
    ...options,
  });
}

/** A driver whose exits are kept. */
function told(api: KubernetesApi) {
  const driver = driverOf(api);
  const exits: WorkerExit[] = [];
  driver.onExit((exit) => exits.push(exit));
  return { driver, exits, [Symbol.asyncDispose]: () => driver[Symbol.asyncDispose]() };
}

const secretKey = (name: string, key: string) => create(KubernetesSecretKeySchema, { name, key });

const podOf = (api: KubernetesApi, workerId: string) =>
  api.pods().find(({ metadata }) => metadata.labels?.["drawbridge/worker"] === workerId);

driverContract({
  name: "kubernetes",
  outlives: true,
  async host() {
    const api = await start();
    return {
      complaints: api.complaints,
      driver: () => driverOf(api),
      kill: (workerId) => api.kill(podOf(api, workerId)?.metadata.name ?? ""),
      [Symbol.asyncDispose]: () => api[Symbol.asyncDispose](),
    };
  },
});

it("asks for nothing but what the Role allows, and for all of that", async () => {
  await using api = await start();
  await using driver = driverOf(api);
  await driver.create(workerSpec("a-1"), 1, unaborted);
  await driver.destroy("a-1", 2);
  await until("a watch is open", () => api.watching() > 0);
  const asked = Object.entries(permissions).flatMap(([resource, verbs]) => verbs.map((verb) => `${verb} ${resource}`));
  expect(new Set(api.calls)).toEqual(new Set(asked));
});

it("limits a Pod, labels it, and names secrets without their values", async () => {
  await using api = await start();
  await using driver = driverOf(api, {
    cpus: 2,
    cpus_requested: 0.5,
    memory: "2GiB",
    memory_requested: "1GiB",
    configuration: "drawbridge",
    node_selector: { pool: "agents" },
  });
  const spec = workerSpec("a-1", {
    KIRO_API_KEY: { case: "fromEnv", value: "SEAT_KEY" },
    TOKEN: { case: "fromKubernetesSecret", value: secretKey("drawbridge", "OTHER") },
  });
  await driver.create(spec, 7, unaborted);
  const pod = podOf(api, "a-1");
  expect(pod?.metadata.labels).toMatchObject({
    "app.kubernetes.io/managed-by": "drawbridge",
    "app.kubernetes.io/instance": "drawbridge",
    "drawbridge/worker": "a-1",
    "drawbridge/account": expect.stringMatching(/^Account_1-[0-9a-f]{10}$/) as string,
    "drawbridge/epoch": "7",
  });
  const [leader] = api.store.list("configmaps");
  expect(leader).toMatchObject({ metadata: { name: "drawbridge-leader" }, data: { epoch: "7" } });
  expect(pod?.metadata.ownerReferences).toMatchObject([{ kind: "ConfigMap", uid: leader?.metadata.uid }]);
  expect(pod?.spec).toMatchObject({ terminationGracePeriodSeconds: 615, nodeSelector: { pool: "agents" } });
  expect(pod?.spec?.containers[0]).toMatchObject({
    args: ["worker", "--listen", "$(POD_IP):7070"],
    resources: {
      requests: { cpu: "500m", memory: String(1 << 30) },
      limits: { cpu: "2000m", memory: String(2 * (1 << 30)) },
    },
  });
  expect(JSON.stringify(pod)).not.toMatch(/s3cret|"other"|internal"/);
  const [listed] = await driver.list();
  expect(listed?.spec).toEqual(spec);
  expect(api.complaints).toEqual([]);
});

it("hands a secret's value to the worker, under a name of its own", async () => {
  await using resources = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "drawbridge-kubernetes-"));
  resources.defer(() => rm(directory, { recursive: true, force: true }));
  const api = resources.use(await start());
  const driver = resources.use(driverOf(api));
  const file = join(directory, "report");
  const env = {
    REPORT: file,
    DOLLARS: "$(POD_IP) $$ $HOME",
    KEY: { case: "fromKubernetesSecret" as const, value: secretKey("drawbridge", "SEAT_KEY") },
    SAME: { case: "fromKubernetesSecret" as const, value: secretKey("drawbridge", "SEAT_KEY") },
    VARIABLE: { case: "fromEnv" as const, value: "SEAT_KEY" },
  };
  await driver.create(workerSpec("a-1", env), 1, unaborted);
  const text = await until("the worker has reported", async () => (await readFile(file, "utf8")) || undefined);
  const { arguments: given, environment } = JSON.parse(text) as {
    arguments: string[];
    environment: Record<string, string>;
  };
  const handed = fromJsonString(WorkerSpecSchema, environment["DRAWBRIDGE_WORKER_SPEC"] ?? "").accounts[0]?.env ?? {};
  expect(handed["DOLLARS"]?.source.value).toBe("$(POD_IP) $$ $HOME");
  for (const name of ["KEY", "SAME", "VARIABLE"]) {
    const { source } = handed[name] ?? {};
    expect(source?.case).toBe("fromEnv");
    expect(environment[source?.value as string]).toBe("s3cret");
  }
  expect(environment).not.toHaveProperty("OTHER");
  expect(given).toEqual(["worker", "--listen", `${environment["POD_IP"]}:7070`]);
});

it("goes on after a watch that ended, broke, or fell behind", async () => {
  await using api = await start();
  await using client = told(api);
  const { driver, exits } = client;
  const disturbances = [() => api.endWatches(), () => api.breakWatches(), () => api.expireWatches()];
  for (const [index, disturb] of disturbances.entries()) {
    const id = `a-${index}`;
    await driver.create(workerSpec(id), 1, unaborted);
    await until("a watch is open", () => api.watching() > 0);
    api.bookmark();
    disturb();
    await api.kill(podOf(api, id)?.metadata.name ?? "");
    await until("the exit is told", () => exits.some(({ workerId }) => workerId === id));
    expect(await driver.list()).toEqual([]);
  }
  expect(exits).toHaveLength(disturbances.length);
});

it("lists again when the server has forgotten the version at which a watch would begin", async () => {
  await using api = await start();
  await using client = told(api);
  const { driver, exits } = client;
  await driver.create(workerSpec("a-1"), 1, unaborted);
  await until("a watch is open", () => api.watching() > 0);
  api.failNext({ status: 500, call: "watch pods" });
  api.breakWatches();
  api.deleteByHand("pods", podOf(api, "a-1")?.metadata.name ?? "", 0);
  api.store.forgetHistory();
  await until("the exit is told", () => exits.length > 0);
  expect(exits).toMatchObject([{ workerId: "a-1", requested: false }]);
  expect(await driver.list()).toEqual([]);
  expect(api.calls.filter((call) => call === "list pods").length).toBeGreaterThanOrEqual(2);
});

it("reads long lists page by page", async () => {
  await using api = await start();
  await using first = driverOf(api);
  for (const id of ["a-1", "a-2", "a-3"]) await first.create(workerSpec(id), 1, unaborted);
  api.limitPages(1);
  await using second = driverOf(api);
  expect(await second.list()).toHaveLength(3);
});

it("repeats what failed in passing, when the server wants it", async () => {
  await using api = await start();
  const waits: number[] = [];
  const sleep: Clock["sleep"] = (ms, signal) => {
    waits.push(ms);
    return systemClock.sleep(ms, signal);
  };
  await using driver = driverOf(api, {}, { clock: { ...systemClock, sleep } });
  const busy = { status: 429, headers: { "retry-after": "1" }, call: "create pods" };
  api.failNext({ status: 500, call: "get configmaps" }, { status: 503, call: "create configmaps" }, busy);
  await driver.create(workerSpec("a-1"), 1, unaborted);
  expect(waits).toContain(1_000);
  expect(await driver.list()).toHaveLength(1);
});

it("says what the server says when it refuses for good", async () => {
  await using api = await startKubernetesApi({ program, secrets, rules: [] });
  await using driver = driverOf(api);
  await expect(driver.create(workerSpec("a-1"), 1, unaborted)).rejects.toMatchObject({
    reason: "PERMISSION_DENIED",
    message: expect.stringContaining("configmaps") as string,
  });
  await expect(driver.list()).rejects.toMatchObject({ reason: "PERMISSION_DENIED" });
});

it("sees a Pod that somebody else deleted as an exit", async () => {
  await using api = await start();
  await using client = told(api);
  const { driver, exits } = client;
  await driver.create(workerSpec("a-1"), 1, unaborted);
  await until("the worker runs", () => podOf(api, "a-1")?.status?.phase === "Running");
  api.deleteByHand("pods", podOf(api, "a-1")?.metadata.name ?? "");
  await until("the exit is told", () => exits.length > 0);
  expect(exits).toMatchObject([{ workerId: "a-1", requested: false }]);
});

it("loses all workers with the leader's record, and starts anew", async () => {
  await using api = await start();
  await using client = told(api);
  const { driver, exits } = client;
  await driver.create(workerSpec("a-1"), 1, unaborted);
  api.deleteByHand("configmaps", "drawbridge-leader");
  await until("the exit is told", () => exits.length > 0);
  await driver.create(workerSpec("a-1"), 1, unaborted);
  expect(await driver.list()).toHaveLength(1);
});

it("refuses a leader whose successor has acted through another controller, even with no worker left", async () => {
  await using api = await start();
  await using old = driverOf(api);
  await using next = driverOf(api);
  await old.create(workerSpec("a-1"), 1, unaborted);
  await next.destroy("a-1", 2);
  await expect(old.create(workerSpec("a-1"), 1, unaborted)).rejects.toMatchObject({ reason: "NOT_LEADER" });
  expect(await next.list()).toEqual([]);
  expect(api.pods()).toEqual([]);
});

it("takes back a Pod that it created while another leader began", async () => {
  await using api = await start();
  await using old = driverOf(api);
  await using next = driverOf(api);
  using _ = api.store.onChange(({ kind, type }) => {
    const record = api.store.find("configmaps", "drawbridge-leader");
    if (kind === "pods" && type === "ADDED" && record)
      api.store.update("configmaps", { ...record, data: { epoch: "9" } });
  });
  await expect(old.create(workerSpec("a-1"), 1, unaborted)).rejects.toMatchObject({ reason: "NOT_LEADER" });
  expect(api.pods()).toEqual([]);
  await until("the other controller sees it gone", async () => (await next.list()).length === 0);
});

it("gives up on a node that does not end its Pods", async () => {
  await using api = await start();
  await using driver = driverOf(api, {}, { lostNodeMs: 300 });
  await driver.create(workerSpec("a-1"), 1, unaborted);
  api.loseNode();
  await driver.destroy("a-1", 1);
  expect(api.pods()).toEqual([]);
});

it("leaves Pods of other systems and of other makers alone", async () => {
  await using api = await start();
  await using one = driverOf(api, { system: "drawbridge" });
  await one.create(workerSpec("a-1"), 5, unaborted);
  const foreign = structuredClone(podOf(api, "a-1"));
  if (!foreign) throw new Error("The Pod is not there.");
  const { uid: _uid, ...metadata } = foreign.metadata;
  api.store.create("pods", { ...foreign, metadata: { ...metadata, name: "drawbridge-a-2", labels: {} } });
  await expect(one.create(workerSpec("a-2"), 5, unaborted)).rejects.toMatchObject({ reason: "ALREADY_EXISTS" });
  await expect(one.destroy("a-2", 5)).rejects.toMatchObject({ reason: "ALREADY_EXISTS" });
  expect(await one.list()).toHaveLength(1);
});

it("says why a Pod has never run when it is given up", async () => {
  await using api = await start();
  const written: string[] = [];
  const log = createLog({ name: "test", destination: { write: (line) => void written.push(line) } });
  await using driver = driverOf(api, {}, { log });
  const missing = secretKey("nowhere", "KEY");
  await driver.create(workerSpec("a-1", { KEY: { case: "fromKubernetesSecret", value: missing } }), 1, unaborted);
  await until("the kubelet has looked", () => podOf(api, "a-1")?.status?.containerStatuses);
  expect(await driver.list()).toHaveLength(1);
  await driver.destroy("a-1", 1);
  expect(written.join("")).toContain('secret \\"nowhere\\" has no key');
  expect(await driver.list()).toEqual([]);
});
