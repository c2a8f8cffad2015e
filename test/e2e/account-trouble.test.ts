// One of three accounts gets into trouble under load: no client notices, and the account soon gets nothing but probes. What is printed are the figures of
// docs/benchmarks.md.
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { account, ask, faultyAgent, type Instruction, openTier } from "../support/fleet.ts";
import { createSystemFolder, startSystem, type System } from "../support/system.ts";
import { until } from "../support/until.ts";

const clients = 6;
const model = "m";

let system: System;
let folder: string;

beforeEach(async () => {
  folder = await createSystemFolder();
  const ids = [1, 2, 3];
  const command = (id: number) => [
    process.execPath,
    faultyAgent,
    "--override",
    join(folder, `override-${id}`),
    "--journal",
    join(folder, `journal-${id}`),
  ];
  system = await startSystem({
    folder,
    configuration: {
      agents: Object.fromEntries(ids.map((id) => [`agent-${id}`, { command: command(id) }])),
      accounts: ids.map((id) => account(`a-${id}`, { agent: `agent-${id}`, models: { [model]: "agent-model" } })),
      tiers: { default: openTier },
      // Long times out, so that nothing of it comes back while the test looks.
      scheduler: { slow_memory: "10m", breaker: { open: "5m" } },
    },
  });
  await until("all accounts serve", async () => (await system.admin.workers()).length === 3);
});

afterEach(async () => {
  await system[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

/** Clients that ask one request after another until they are stopped; how many requests failed, of how many. */
function load(answerMs: number) {
  let running = true;
  const result = { requests: 0, failures: [] as string[] };
  const one = async () => {
    while (running) {
      const body = { model, messages: ask({ do: "answer", chunks: 2, delay_ms: answerMs }) };
      const response = await system.request("/v1/chat/completions", { body });
      const text = await response.text();
      result.requests += 1;
      if (!response.ok) result.failures.push(`${response.status} ${text}`);
    }
  };
  const all = Promise.all(Array.from({ length: clients }, one));
  return {
    result,
    async stop() {
      running = false;
      await all;
      return result;
    },
  };
}

/** When the account's agent was given prompts. */
async function calls(id: number): Promise<number[]> {
  const journal = await readFile(join(folder, `journal-${id}`), "utf8").catch(() => "");
  return journal.split("\n").filter(Boolean).map(Number);
}

const callsSince = async (id: number, at: number) => (await calls(id)).filter((time) => time >= at);
const makeTrouble = (instruction: Instruction) => writeFile(join(folder, "override-1"), JSON.stringify(instruction));
const answered = (requests: { readonly result: { readonly requests: number } }, count: number) => {
  const before = requests.result.requests;
  return until(`${count} more answers`, () => requests.result.requests >= before + count);
};

it("an account that fails every call costs no client a request", async () => {
  const requests = load(100);
  await until("the account has calls", async () => (await calls(1)).length >= 5);
  const at = Date.now();
  await makeTrouble({ do: "error", message: "broken" });
  await until("its breaker is open", async () =>
    (await system.admin.accounts()).some(({ id, breaker }) => id === "a-1" && breaker === "open"),
  );
  const openAfterMs = Date.now() - at;
  await answered(requests, 20);
  const failedCalls = await callsSince(1, at);
  await answered(requests, 100);
  expect(await callsSince(1, at)).toEqual(failedCalls);
  const { failures, requests: all } = await requests.stop();
  expect(failures).toEqual([]);
  const last = Math.max(...failedCalls) - at;
  process.stdout.write(
    `fails every call: ${all} requests, 0 failed; the last of ${failedCalls.length} failed calls after ${last} ms; breaker seen open after ${openAfterMs} ms\n`,
  );
});

it("an account that becomes ten times slower loses its load while it still succeeds", async () => {
  // Long enough that a busy machine does not make the others as slow.
  const answerMs = 500;
  const requests = load(answerMs);
  await until("the account has calls", async () => (await calls(1)).length >= 3);
  const at = Date.now();
  await makeTrouble({ do: "answer", chunks: 2, delay_ms: 10 * answerMs });
  await until("it comes last", async () => {
    const rows = await system.cli<{ account: string; weight: number }[]>("explain", "--model", model);
    return rows.some((row) => row.account === "a-1" && row.weight < 1);
  });
  await answered(requests, 10);
  const slowCalls = await callsSince(1, at);
  await answered(requests, 40);
  const more = (await callsSince(1, at)).length - slowCalls.length;
  expect(more, "an even share would be 13 of 40").toBeLessThan(4);
  const { failures, requests: all } = await requests.stop();
  expect(failures).toEqual([]);
  process.stdout.write(
    `ten times slower: ${all} requests, 0 failed; the last of ${slowCalls.length} slow calls after ${Math.max(0, ...slowCalls.map((time) => time - at))} ms\n`,
  );
});
