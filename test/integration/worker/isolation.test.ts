import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { UsageSource } from "#gen/drawbridge/v1/usage";
import { Health } from "#gen/drawbridge/v1/worker";
import { faultyAgent } from "../../support/fleet.ts";
import { until } from "../../support/until.ts";
import { startWorker } from "./harness.ts";

interface Seen {
  readonly env: Record<string, string>;
  readonly cwd: string;
}

describe("an agent", () => {
  it("finds its account's folders and listed variables, and nothing else", async () => {
    await using worker = await startWorker({
      environment: { SECRET_OF_THE_HOST: "host", KEY_HERE: "key-123", LC_ALL: "C", NODE_OPTIONS: "--no-warnings" },
      env: { MODE: { case: "value", value: "fast" }, API_KEY: { case: "fromEnv", value: "KEY_HERE" } },
    });
    const { env, cwd } = JSON.parse((await worker.prompt({ do: "environment" })).text) as Seen;
    const names = ["API_KEY", "DRAWBRIDGE_AGENT", "HOME", "LANG", "LC_ALL", "MODE", "PATH", "TMPDIR"];
    const folders = ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"];
    expect(Object.keys(env).sort()).toEqual([...names, ...folders].sort());
    expect(env).toMatchObject({ MODE: "fast", API_KEY: "key-123" });
    for (const name of ["HOME", "TMPDIR", ...folders]) expect(env[name]?.startsWith(worker.directory)).toBe(true);
    expect(cwd.startsWith(worker.directory)).toBe(true);
  });

  it("keeps its home over restarts, and leaves no working directory", async () => {
    const worker = await startWorker();
    const { env } = JSON.parse((await worker.prompt({ do: "environment" })).text) as Seen;
    await worker.app[Symbol.asyncDispose]();
    expect(await readdir(env["HOME"] ?? "")).toEqual([]);
    expect(await readdir(join(worker.directory, "work"))).toEqual([]);
    await worker[Symbol.asyncDispose]();
  });

  it("is refused every permission", async () => {
    await using worker = await startWorker();
    const { text } = await worker.prompt({ do: "permission" });
    expect(JSON.parse(text)).toEqual({ outcome: { outcome: "selected", optionId: "no" } });
  });

  it("whose account refers to a variable that is not set makes the pool unhealthy, and says which", async () => {
    await using worker = await startWorker({ env: { API_KEY: { case: "fromEnv", value: "NOT_SET_ANYWHERE" } } });
    await until("the pool is unhealthy", async () => (await worker.pool()).health === Health.UNHEALTHY);
    expect((await worker.pool()).healthReason).toContain("NOT_SET_ANYWHERE");
    expect((await worker.prompt({ do: "answer" })).error?.reason).toBe("AGENT_CRASHED");
  });

  it("recovers when a missing file appears", async () => {
    const folder = await mkdtemp(join(tmpdir(), "drawbridge-secret-"));
    const file = join(folder, "key");
    await using worker = await startWorker({ env: { API_KEY: { case: "fromFile", value: file } } });
    await until("the pool is unhealthy", async () => (await worker.pool()).health === Health.UNHEALTHY);
    await writeFile(file, "from-a-file\n");
    await until("a process is usable", async () => (await worker.pool()).health !== Health.UNHEALTHY);
    const { env } = JSON.parse((await worker.prompt({ do: "environment" })).text) as Seen;
    expect(env["API_KEY"]).toBe("from-a-file");
    await rm(folder, { recursive: true });
  });

  it("that quotes its secret in an error does not give it away", async () => {
    await using worker = await startWorker({ env: { API_KEY: { case: "value", value: "very-secret-value" } } });
    const { error } = await worker.prompt({
      do: "error",
      message: "bad key very-secret-value for ksk_abcdefgh12345678",
    });
    expect(error?.message).toContain("bad key [redacted] for [redacted]");
  });
});

describe("kiro-cli", () => {
  it("is started with an agent file without tools, one model for each process, and reports credits", async () => {
    const folder = await mkdtemp(join(tmpdir(), "drawbridge-kiro-"));
    await mkdir(join(folder, "bin"));
    const stand = `#!/bin/sh\nexport SEEN_ARGUMENTS="$*"\nexec ${process.execPath} ${faultyAgent} --no-close\n`;
    await writeFile(join(folder, "bin", "kiro-cli-chat"), stand, { mode: 0o755 });
    await using worker = await startWorker({
      profile: "kiro",
      models: { "test/model-1": "claude", "test/model-2": "auto" },
      environment: { PATH: `${join(folder, "bin")}:${process.env["PATH"]}` },
    });
    const first = await worker.prompt({ do: "environment", credits: 0.25 });
    expect(first.error?.reason).toBeUndefined();
    expect(first.outcome?.millicredits).toBe(250n);
    const { env } = JSON.parse(first.text) as Seen;
    expect(env["SEEN_ARGUMENTS"]).toBe("acp --agent drawbridge --model claude");
    expect(env["KIRO_HOME"]?.startsWith(worker.directory)).toBe(true);
    expect(await readdir(join(env["KIRO_HOME"] ?? "", "agents"))).toEqual(["drawbridge.json"]);
    const second = await worker.prompt({ do: "environment" }, { prompt: { model: "test/model-2" } });
    expect((JSON.parse(second.text) as Seen).env["SEEN_ARGUMENTS"]).toBe("acp --agent drawbridge");
    const limit = { method: "_kiro.dev/error/rate_limit", params: { message: "try again in 9 seconds" } };
    const limited = await worker.prompt({ do: "empty", notify: limit });
    expect(limited.error).toMatchObject({ reason: "AGENT_RATE_LIMITED", retryAfterMs: 9_000 });
    await rm(folder, { recursive: true });
  });
});

describe("kiro-cli that falls back to an agent with tools", () => {
  it("is not used", async () => {
    const folder = await mkdtemp(join(tmpdir(), "drawbridge-kiro-"));
    const stand = `#!/bin/sh\nexec ${process.execPath} ${faultyAgent} --notify _kiro.dev/agent/not_found\n`;
    await writeFile(join(folder, "kiro-cli"), stand, { mode: 0o755 });
    await using worker = await startWorker({
      profile: "kiro",
      environment: { PATH: `${folder}:${process.env["PATH"]}` },
    });
    await until("the pool is unhealthy", async () => (await worker.pool()).health === Health.UNHEALTHY);
    expect((await worker.pool()).healthReason).toContain("has tools");
    await rm(folder, { recursive: true });
  });
});

describe("the demo agent", () => {
  it("says what it is, and reports usage", async () => {
    await using worker = await startWorker({ profile: "demo", models: { "test/model-1": "demo" } });
    const { text, outcome, error } = await worker.prompt({ do: "hello" });
    expect(error?.reason).toBeUndefined();
    expect(text).toContain("built-in demo agent");
    expect(text).toContain("hello");
    expect(outcome?.usage?.source).toBe(UsageSource.REPORTED);
  });
});
