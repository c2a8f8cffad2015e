// An account that keeps no worker: a request starts one and waits for it, the worker goes when it is idle, and credits decide whether one may run.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { account, ask, fleet, model, words } from "../support/fleet.ts";
import { startSystem, type System } from "../support/system.ts";
import { until } from "../support/until.ts";

let system: System;

beforeAll(async () => {
  system = await startSystem({
    until: "listening",
    configuration: fleet({
      accounts: [account("a-1", { credits: 3, workers: { min: 0, max: 1 } })],
      controller: {
        resync: "1s",
        health_interval: "300ms",
        scale_to_zero_after: "2s",
        scale_down_after: "1s",
        scale_cooldown: "500ms",
      },
    }),
  });
});

afterAll(async () => {
  await system?.[Symbol.asyncDispose]();
});

async function answer(): Promise<string | null | undefined> {
  const messages = ask({ do: "answer", chunks: 3 });
  const completion = await system.openai().chat.completions.create({ model, messages }, { timeout: 60_000 });
  return completion.choices[0]?.message.content;
}

async function workers(count: number): Promise<void> {
  const counted = async () => (await system.admin.workers()).length === count;
  await until(`${count} workers run`, counted, { timeoutMs: 60_000, everyMs: 100 });
}

describe("an account with workers.min 0", () => {
  it("answers a request that waited for the first worker, and has none again when it is idle, again and again", async () => {
    await workers(0);
    for (let turn = 0; turn < 2; turn++) {
      expect(await answer()).toBe(words(3));
      await workers(0);
    }
  });

  it("has no worker without credits, and one for a request when they are granted again", async () => {
    expect(await answer()).toBe(words(3));
    // That was the last of its three credits.
    await workers(0);
    await expect(answer()).rejects.toMatchObject({ status: expect.any(Number) });
    expect(await system.admin.workers()).toEqual([]);
    await system.cli("account", "grant", "a-1", "5");
    expect(await answer()).toBe(words(3));
    await workers(0);
  });
});
