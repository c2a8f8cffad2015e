// kiro-cli as far as it is known: its two engines, what it may run with, and what it must not.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import { UsageSource } from "#gen/drawbridge/v1/usage";
import { Health } from "#gen/drawbridge/v1/worker";
import { until } from "../../support/until.ts";
import { publicModel, startWorker, type WorkerUnderTest } from "./harness.ts";

const program = fileURLToPath(new URL("../../support/agents/fake-kiro.ts", import.meta.url));
const folders: string[] = [];

afterEach(async () => {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true });
});

interface Kiro {
  readonly worker: WorkerUnderTest;
  /** What the stand-in noted under this name. */
  readonly noted: (name: string) => Promise<unknown[]>;
}

async function startKiro(
  profile: string,
  behaviour = "",
  { binary = "kiro-cli-chat", model = "claude-a", key = "" } = {},
): Promise<Kiro> {
  const folder = await mkdtemp(join(tmpdir(), "drawbridge-kiro-"));
  folders.push(folder);
  const log = join(folder, "log");
  await writeFile(join(folder, binary), `#!/bin/sh\nexec ${process.execPath} ${program} "$@"\n`, { mode: 0o755 });
  const value = (text: string) => ({ case: "value" as const, value: text });
  const worker = await startWorker({
    profile,
    models: { [publicModel]: model },
    environment: { PATH: `${folder}:/usr/bin:/bin` },
    env: { FAKE_KIRO: value(behaviour), FAKE_KIRO_LOG: value(log), ...(key ? { KIRO_API_KEY: value(key) } : {}) },
  });
  const noted = async (name: string) =>
    (await readFile(log, "utf8"))
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => (JSON.parse(line) as Record<string, unknown>)[name])
      .filter((found) => found !== undefined);
  return { worker, noted };
}

async function unhealthyReason(worker: WorkerUnderTest): Promise<string> {
  await until("the pool is unhealthy", async () => (await worker.pool()).health === Health.UNHEALTHY);
  return (await worker.pool()).healthReason;
}

describe.each(["kiro", "kiro-v3"])("the profile %s", (profile) => {
  it.each(["kiro-cli", "kiro-cli-chat"])("runs %s with its model, and counts credits and context", async (binary) => {
    const { worker, noted } = await startKiro(profile, "", { binary });
    await using _ = worker;
    const { text, error, outcome } = await worker.prompt({ do: "anything" });
    expect(error?.message).toBeUndefined();
    expect(JSON.parse(text)).toMatchObject({ model: "claude-a" });
    expect(outcome).toMatchObject({ millicredits: 250n, usage: { source: UsageSource.ESTIMATED } });
    // 2 % of 200,000, of which the answer is a part.
    const { inputTokens = 0n, outputTokens = 0n } = outcome?.usage ?? {};
    expect(inputTokens + outputTokens).toBe(4_000n);
    await until("the session was taken from its memory", async () => (await noted("forgotten")).includes("session-1"));
    expect((await noted("arguments"))[0]).toEqual(["whoami", "--format", "json"]);
  });

  it("waits a little for credits that come after the answer, and takes no other session's", async () => {
    const { worker } = await startKiro(profile, "late-metadata");
    await using _ = worker;
    expect((await worker.prompt({ do: "anything" })).outcome?.millicredits).toBe(250n);
  });

  it("answers without credits where none come", async () => {
    const { worker } = await startKiro(profile, "no-metadata");
    await using _ = worker;
    const { outcome, error } = await worker.prompt({ do: "anything" });
    expect(error?.message).toBeUndefined();
    expect(outcome?.millicredits).toBeUndefined();
  });

  it("is not used when its agent file was not found", async () => {
    const { worker } = await startKiro(profile, "fallback");
    await using _ = worker;
    expect(await unhealthyReason(worker)).toContain("kiro_default");
  });

  it.each(["switched", "switched-at-once"])("is not used when it switches to another agent (%s)", async (behaviour) => {
    const { worker } = await startKiro(profile, behaviour);
    await using _ = worker;
    await until("a process was refused", async () => (await worker.pool()).healthReason.includes("switched"));
    expect((await worker.pool()).healthReason).toContain("kiro_default");
  });

  it("is not used when it runs another model", async () => {
    const { worker } = await startKiro(profile, "other-model");
    await using _ = worker;
    expect(await unhealthyReason(worker)).toContain('the model "claude-b" instead of "claude-a"');
  });

  it("takes kiro-cli's own choice of a model", async () => {
    const { worker, noted } = await startKiro(profile, "", { model: "auto" });
    await using _ = worker;
    expect(JSON.parse((await worker.prompt({ do: "anything" })).text)).toMatchObject({ model: "auto" });
    expect((await noted("arguments"))[1]).not.toContain("--model");
  });

  it("says within a bound that nobody is logged in", async () => {
    const { worker, noted } = await startKiro(profile, "logged-out");
    await using _ = worker;
    expect(await unhealthyReason(worker)).toContain("not logged in");
    expect((await worker.prompt({ do: "anything" })).error?.reason).toBe("AGENT_UNAUTHENTICATED");
    // It was never started for prompts, where it would wait for ever.
    for (const words of await noted("arguments")) expect(words).toContain("whoami");
  });
});

describe("engine v3", () => {
  it("gets agent and model in the session, since it refuses them at its start", async () => {
    const { worker, noted } = await startKiro("kiro-v3");
    await using _ = worker;
    await worker.ready();
    expect((await noted("arguments"))[1]).toEqual(["acp", "--agent-engine", "v3"]);
    expect(await noted("mode")).toEqual(["drawbridge"]);
    expect(await noted("method")).toContain("session/set_config_option");
  });
});

describe("engine v2", () => {
  it("gets agent and model at its start", async () => {
    const { worker, noted } = await startKiro("kiro");
    await using _ = worker;
    await worker.ready();
    expect((await noted("arguments"))[1]).toEqual(["acp", "--agent", "drawbridge", "--model", "claude-a"]);
  });

  it("has an agent file without tools, and none of a request's under an API key", async () => {
    for (const [key, tools] of [
      ["", ["@drawbridge"]],
      ["ksk_local-test-key", []],
    ] as const) {
      const { worker } = await startKiro("kiro", "", { key });
      await using _ = worker;
      const { text } = await worker.prompt({ do: "anything" });
      const { kiroHome } = JSON.parse(text) as { kiroHome: string };
      expect(kiroHome.startsWith(worker.directory)).toBe(true);
      const file = JSON.parse(await readFile(join(kiroHome, "agents", "drawbridge.json"), "utf8")) as object;
      expect(file).toMatchObject({ tools, allowedTools: tools, mcpServers: {}, resources: [] });
    }
  });
});
