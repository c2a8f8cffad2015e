// How each agent tells of its failures, and what that means: test/support/traces.
import { readdirSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { builtInAgents } from "../../../services/worker/profiles/index.ts";
import { Health } from "#gen/drawbridge/v1/worker";
import { until } from "../../support/until.ts";
import { type Answer, startWorker, type WorkerUnderTest } from "./harness.ts";

interface Expected {
  readonly reason: string | null;
  readonly retry_after_ms?: number;
  readonly text?: string;
  readonly message?: string;
  readonly input_tokens?: number;
  readonly output_tokens?: number;
  readonly millicredits?: number;
}

interface Trace {
  readonly at?: "session/new" | "session/prompt";
  readonly expect: Expected;
}

const folder = fileURLToPath(new URL("../../support/traces/", import.meta.url));
const player = fileURLToPath(new URL("../../support/agents/trace-agent.ts", import.meta.url));
const files = readdirSync(folder).filter((name) => name.endsWith(".json"));

function check({ error, text, outcome }: Answer, expected: Expected): void {
  expect(error?.reason ?? null).toBe(expected.reason);
  if (expected.message) expect(error?.message).toContain(expected.message);
  if (expected.text !== undefined) expect(text).toBe(expected.text);
  if (expected.retry_after_ms) expect(error?.retryAfterMs).toBe(expected.retry_after_ms);
  if (expected.input_tokens) expect(outcome?.usage?.inputTokens).toBe(BigInt(expected.input_tokens));
  if (expected.output_tokens) expect(outcome?.usage?.outputTokens).toBe(BigInt(expected.output_tokens));
  if (expected.millicredits) expect(outcome?.millicredits).toBe(BigInt(expected.millicredits));
}

it("there are traces for every agent of others", () => {
  const others = builtInAgents.filter((name) => name !== "demo" && name !== "kiro-v3");
  expect(files.map((name) => basename(name, ".json")).sort()).toEqual([...others].sort());
});

describe.each(files)("%s", (file) => {
  const traces = Object.entries(JSON.parse(readFileSync(folder + file, "utf8")) as Record<string, Trace>);
  const start = (...words: string[]) =>
    startWorker({ profile: basename(file, ".json"), command: [process.execPath, player, folder + file, ...words] });
  let worker: WorkerUnderTest;
  beforeAll(async () => {
    worker = await start();
    await worker.ready();
  });
  afterAll(() => worker[Symbol.asyncDispose]());

  it.each(traces.filter(([, { at }]) => at !== "session/new"))("%s", async (name, trace) => {
    check(await worker.prompt({ do: "trace", trace: name }), trace.expect);
  });

  it.each(traces.filter(([, { at }]) => at === "session/new"))("before any prompt: %s", async (name, trace) => {
    await using early = await start(name);
    await until("the pool is unhealthy", async () => (await early.pool()).health === Health.UNHEALTHY);
    check(await early.prompt({ do: "trace", trace: name }), trace.expect);
  });
});
