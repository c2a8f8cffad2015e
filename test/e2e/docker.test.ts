// The whole product with workers as containers of an Engine that runs them as processes: real workers, which live on without the controller.
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { stringify } from "yaml";
import { type DockerEngine, startDockerEngine } from "../support/docker-engine.ts";
import { createSystemFolder, entry, startSystem, type System } from "../support/system.ts";
import { until } from "../support/until.ts";
import { freePorts } from "../support/valkey.ts";

const token = "internal-token-of-services-and-containers";

let resources: AsyncDisposableStack;
let engine: DockerEngine;
let start: () => Promise<System>;

/** `orphanTimeout`: when a worker that hears nobody ends. */
async function given(orphanTimeout: string): Promise<void> {
  const folder = resources.adopt(await createSystemFolder(), (path) => rm(path, { recursive: true, force: true }));
  const containers = resources.adopt(await createSystemFolder(), (path) => rm(path, { recursive: true, force: true }));
  await writeFile(join(containers, "drawbridge.yaml"), stringify({ worker: { orphan_timeout: orphanTimeout } }));
  engine = resources.use(
    await startDockerEngine({
      program: entry,
      directory: containers,
      environment: { PATH: process.env["PATH"] ?? "", HOME: containers, DRAWBRIDGE_DIRECTORY: containers },
    }),
  );
  // Workers find the next run at the address of the last one.
  const [port] = await freePorts(1);
  start = () =>
    startSystem({
      folder,
      configuration: {
        internal: { listen: `127.0.0.1:${port}` },
        registry: { heartbeat_interval: "500ms" },
        controller: { driver: "docker", docker: { host: engine.url, network: "host" } },
        accounts: [{ id: "seat", agent: "demo", models: ["demo"] }],
      },
      environment: { DRAWBRIDGE_INTERNAL_TOKEN: token },
    });
}

beforeEach(() => {
  resources = new AsyncDisposableStack();
});

afterEach(async () => {
  await resources.disposeAsync();
  expect(engine.complaints).toEqual([]);
});

async function answerOf(system: System): Promise<string | null | undefined> {
  const messages = [{ role: "user" as const, content: "Hello" }];
  return (await system.openai().chat.completions.create({ model: "demo", messages })).choices[0]?.message.content;
}

it("serves from a container, which lives on when everything else is killed, and is adopted by the next run", async () => {
  await given("10m");
  const first = await start();
  expect(await answerOf(first)).toContain("Hello");
  const [worker] = await first.admin.workers();
  await first.stop("SIGKILL");
  expect(engine.containers().map(({ state }) => state)).toEqual(["running"]);

  await using second = await start();
  expect(await answerOf(second)).toContain("Hello");
  expect((await second.admin.workers()).map(({ pid }) => pid)).toEqual([worker?.pid]);
  expect(engine.created).toHaveLength(1);
});

it("a container that hears neither registry nor controller ends by itself, and the next run starts another one", async () => {
  await given("2s");
  const first = await start();
  expect(await answerOf(first)).toContain("Hello");
  await first.stop("SIGKILL");
  await until("no container runs", () => engine.containers().every(({ state }) => state === "exited"));
  expect(engine.containers().map(({ exitCode }) => exitCode)).toEqual([0]);

  await using second = await start();
  expect(await answerOf(second)).toContain("Hello");
});
