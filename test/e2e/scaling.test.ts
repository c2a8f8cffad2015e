// An account between one worker and three: it grows while prompts wait, and shrinks when they are gone, and no client notices either.
import { afterAll, beforeAll, expect, test } from "vitest";
import { expectAccountBalanced, settledBooks } from "../support/books.ts";
import { account, ask, fleet, model, words } from "../support/fleet.ts";
import { startSystem, type System } from "../support/system.ts";
import { until } from "../support/until.ts";

const clients = 6;
const chunks = 10;

let system: System;

beforeAll(async () => {
  system = await startSystem({
    configuration: fleet({
      accounts: [account("a-1", { slots: 1, queue: 4, workers: { min: 1, max: 3 } })],
      controller: {
        health_interval: "200ms",
        scale_up_after: "300ms",
        scale_down_after: "1s",
        scale_cooldown: "500ms",
      },
    }),
  });
});

afterAll(async () => {
  await system?.[Symbol.asyncDispose]();
});

const serving = async () => (await system.admin.workers()).filter(({ health }) => health === "healthy").length;

/** Asks one after the other until told to end; what was answered. */
async function keepAsking(ended: () => boolean): Promise<(string | null | undefined)[]> {
  const answers: (string | null | undefined)[] = [];
  while (!ended()) {
    const messages = ask({ do: "answer", chunks, pause_ms: 40 });
    const completion = await system.openai().chat.completions.create({ model, messages }, { timeout: 60_000 });
    answers.push(completion.choices[0]?.message.content);
  }
  return answers;
}

test("workers come while prompts wait, up to the maximum, and go when nobody asks, down to the minimum", async () => {
  expect(await serving()).toBe(1);
  let ended = false;
  const asking = Promise.all(Array.from({ length: clients }, () => keepAsking(() => ended)));
  try {
    await until("three workers serve", async () => (await serving()) === 3, { timeoutMs: 60_000 });
    expect(await system.admin.workers()).toHaveLength(3);
  } finally {
    ended = true;
  }
  const answers = (await asking).flat();
  expect(new Set(answers)).toEqual(new Set([words(chunks)]));
  await until("one worker is left", async () => (await system.admin.workers()).length === 1, { timeoutMs: 60_000 });
  expect(await serving()).toBe(1);
  const { usage, accounts } = await settledBooks(system.admin, "default");
  expect(usage.filter(({ end }) => end === "finished")).toHaveLength(answers.length);
  for (const each of accounts) expectAccountBalanced(each);
});
