// The docker driver against an Engine that speaks Docker's HTTP API and runs real processes.
import { join } from "node:path";
import Docker from "dockerode";
import { expect, it } from "vitest";
import { dockerSettings } from "../../../services/controller/drivers/config.ts";
import { createDockerDriver } from "../../../services/controller/drivers/docker.ts";
import { systemClock } from "../../../services/kit/clock.ts";
import { silentLog } from "../../../services/kit/log.ts";
import { systemRandom } from "../../../services/kit/random.ts";
import { parseSettings } from "../../../services/kit/settings.ts";
import { type DockerEngine, startDockerEngine } from "../../support/docker-engine.ts";
import { until } from "../../support/until.ts";
import { driverContract, workerSpec } from "./driver-contract.ts";

const program = join(import.meta.dirname, "contract-worker.ts");
const unaborted = new AbortController().signal;

interface Given {
  readonly settings?: object;
  readonly environment?: Readonly<Record<string, string>>;
  readonly registryUrl?: string;
  readonly token?: string;
}

function driverOf(engine: DockerEngine, { settings, environment, registryUrl, token }: Given = {}) {
  const { hostname: host, port } = new URL(engine.url);
  return createDockerDriver({
    engine: new Docker({ protocol: "http", host, port: Number(port) }),
    settings: parseSettings(dockerSettings, { network: "host", ...settings }, "test"),
    registryUrl: () => registryUrl ?? "http://registry:7071",
    token: token ?? "internal",
    clock: systemClock,
    random: systemRandom,
    log: silentLog,
    environment: environment ?? {},
    terminateMs: 200,
  });
}

driverContract({
  name: "docker",
  outlives: true,
  async host({ registryUrl, token }) {
    const engine = await startDockerEngine({ program });
    return {
      complaints: engine.complaints,
      driver: () => driverOf(engine, { registryUrl, token }),
      kill: (workerId) => engine.kill(`drawbridge-${workerId}`),
      [Symbol.asyncDispose]: () => engine[Symbol.asyncDispose](),
    };
  },
});

it("limits a container, gives it only the secrets that it refers to, and says how others reach it", async () => {
  await using engine = await startDockerEngine({ program });
  await using driver = driverOf(engine, {
    settings: { network: "fleet", memory: "512MiB", cpus: 0.5, configuration: "/etc/drawbridge.yaml" },
    environment: { SEAT_KEY: "s3cret", OTHER: "other" },
  });
  const spec = workerSpec("a-1", {
    KIRO_API_KEY: { case: "fromEnv", value: "SEAT_KEY" },
    TOKEN: { case: "fromFile", value: "/run/secrets/token" },
  });
  await driver.create(spec, 7, unaborted);
  const [body] = engine.created;
  expect(body?.Cmd).toEqual(["worker", "--listen", "0.0.0.0:7070"]);
  expect(body?.Env).toContain("SEAT_KEY=s3cret");
  expect(body?.Env).toContain("DRAWBRIDGE_ADVERTISE=http://drawbridge-a-1:7070");
  expect(body?.Env.join()).not.toContain("other");
  expect(JSON.stringify(body?.Labels)).not.toContain("s3cret");
  expect(body?.Labels).toMatchObject({
    "drawbridge.system": "drawbridge",
    "drawbridge.worker": "a-1",
    "drawbridge.epoch": "7",
  });
  expect(body?.HostConfig).toMatchObject({
    NetworkMode: "fleet",
    Memory: 512 << 20,
    NanoCpus: 500_000_000,
    RestartPolicy: { Name: "no" },
    Mounts: [
      { Type: "volume", Source: "drawbridge-a-1", Target: "/data" },
      { Type: "bind", Source: "/etc/drawbridge.yaml", Target: "/app/drawbridge.yaml", ReadOnly: true },
      { Type: "bind", Source: "/run/secrets/token", Target: "/run/secrets/token", ReadOnly: true },
    ],
  });
  expect(body?.["Healthcheck"]).toMatchObject({
    Test: ["CMD", "node", "-e", expect.stringContaining("/health") as string],
  });
  expect(engine.complaints).toEqual([]);
});

it("refuses a reference to nothing, and leaves no container", async () => {
  await using engine = await startDockerEngine({ program });
  await using driver = driverOf(engine);
  const spec = workerSpec("a-1", { KEY: { case: "fromEnv", value: "NOT_SET" } });
  await expect(driver.create(spec, 1, unaborted)).rejects.toMatchObject({
    reason: "INVALID_ARGUMENT",
    message: expect.stringContaining("NOT_SET") as string,
  });
  expect(engine.containers()).toEqual([]);
});

it("says what the Engine says when a container cannot be started", async () => {
  await using engine = await startDockerEngine({ program, image: "another" });
  await using driver = driverOf(engine);
  await expect(driver.create(workerSpec("a-1"), 1, unaborted)).rejects.toMatchObject({
    reason: "INTERNAL",
    message: expect.stringContaining("No such image") as string,
  });
});

it("leaves containers of other systems alone", async () => {
  await using engine = await startDockerEngine({ program });
  await using one = driverOf(engine, { settings: { system: "one" } });
  await using other = driverOf(engine, { settings: { system: "other" } });
  await one.create(workerSpec("a-1"), 5, unaborted);
  await other.create(workerSpec("a-1"), 1, unaborted);
  await other.destroy("a-1", 1);
  expect(await other.list()).toEqual([]);
  expect(await one.list()).toHaveLength(1);
});

it("hears of an end that came while the Engine's events were broken", async () => {
  await using engine = await startDockerEngine({ program });
  await using driver = driverOf(engine);
  const told: string[] = [];
  driver.onExit(({ workerId }) => told.push(workerId));
  await driver.create(workerSpec("a-1"), 1, unaborted);
  engine.failNext(3);
  engine.breakEvents();
  engine.kill("drawbridge-a-1");
  await until("the exit is told", () => told.length > 0);
  expect(told).toEqual(["a-1"]);
});

it("keeps one volume for the newest epoch of a system, beside what it does not know", async () => {
  await using engine = await startDockerEngine({ program });
  await using one = driverOf(engine, { settings: { system: "one" } });
  await using other = driverOf(engine, { settings: { system: "other" } });
  await other.claim(9, unaborted);
  for (const epoch of [1, 2, 7]) await one.claim(epoch, unaborted);
  expect([...engine.volumes]).toEqual([
    ["other.epoch.9", { "drawbridge.fence": "other", "drawbridge.epoch": "9" }],
    ["one.epoch.7", { "drawbridge.fence": "one", "drawbridge.epoch": "7" }],
  ]);
});

it("writes its epoch down again, and goes by those of containers, where somebody pruned the volumes", async () => {
  await using engine = await startDockerEngine({ program });
  await using driver = driverOf(engine);
  await driver.create(workerSpec("a-1"), 5, unaborted);
  engine.prune();
  await using stale = driverOf(engine);
  await expect(stale.claim(4, unaborted)).rejects.toMatchObject({ reason: "NOT_LEADER" });
  await driver.destroy("a-1", 5);
  expect([...engine.volumes.keys()]).toEqual(["drawbridge.epoch.5"]);
});

it("takes a container back that it made while another leader began", async () => {
  await using engine = await startDockerEngine({ program });
  await using old = driverOf(engine);
  await using next = driverOf(engine);
  await old.claim(1, unaborted);
  engine.beforeNextCreation(() => next.claim(2, unaborted));
  await expect(old.create(workerSpec("a-1"), 1, unaborted)).rejects.toMatchObject({ reason: "NOT_LEADER" });
  expect(engine.containers()).toEqual([]);
});
