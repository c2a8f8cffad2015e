// A gateway of several processes on one port: one gateway to everybody, with exact limits, whichever of them answers.
import { afterAll, beforeAll, expect, test } from "vitest";
import { settledBooks } from "../support/books.ts";
import { account, ask, fleet, model, openTier } from "../support/fleet.ts";
import { startSystem, type System } from "../support/system.ts";
import { until } from "../support/until.ts";

const narrow = { ...openTier, rpm: 20 };

let system: System;

beforeAll(async () => {
  system = await startSystem({
    configuration: fleet({
      accounts: [account("a-1", { slots: 4, queue: 100 })],
      tiers: { default: openTier, narrow },
      prices: { [model]: { input: 1, output: 1 } },
      gateway: { processes: 2 },
    }),
  });
});

afterAll(async () => {
  await system.stop("SIGTERM");
  await system.gone();
  await system[Symbol.asyncDispose]();
});

const gateways = async () =>
  (await system.processes()).filter(({ command }) => command.includes("drawbridge.ts gateway")).map(({ pid }) => pid);

const send = (apiKey: string) =>
  system.request("/v1/chat/completions", {
    apiKey,
    body: { model, messages: ask({ do: "answer" }) },
    headers: { connection: "close" },
  });

test("both answer, and /metrics is the sum of both", async () => {
  expect(await gateways()).toHaveLength(2);
  const answers = await Promise.all(Array.from({ length: 20 }, () => send(system.apiKey)));
  expect(answers.map((answer) => answer.status)).toEqual(Array(20).fill(200));
  await Promise.all(answers.map((answer) => answer.text()));
  const metrics = await (await system.request("/metrics")).text();
  const counts = [...metrics.matchAll(/^drawbridge_requests_total\{route="\/v1\/chat\/completions".*\} (\d+)$/gm)];
  expect(counts.map(([, count]) => Number(count))).toEqual([20]);
});

test("a race of many does not get beyond a limit", async () => {
  const { key } = await system.admin.createUser("narrow", 1_000_000, "narrow");
  const answers = await Promise.all(Array.from({ length: 100 }, () => send(key)));
  const served = answers.filter((answer) => answer.status === 200).length;
  expect(answers.filter((answer) => answer.status === 429)).toHaveLength(100 - served);
  // The bucket refills while the race runs: one more in three seconds.
  expect(served).toBeGreaterThanOrEqual(narrow.rpm);
  expect(served).toBeLessThan(narrow.rpm + 10);
  const { usage } = await settledBooks(system.admin, "narrow");
  expect(usage).toHaveLength(served);
});

test("one that is killed is replaced, and requests go on", async () => {
  const before = await gateways();
  process.kill(before[0] ?? 0, "SIGKILL");
  await until("there are two again", async () => {
    const now = await gateways();
    return now.length === 2 && !now.includes(before[0] ?? 0);
  });
  const answer = await until("it answers", async () => await send(system.apiKey));
  expect(answer.status).toBe(200);
});
