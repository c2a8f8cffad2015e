// Every request settles exactly once, at the exact price, however it or the processes end.
import { rm } from "node:fs/promises";
import { afterAll, afterEach, beforeEach, describe, expect, it } from "vitest";
import { expectAccountBalanced, expectUserBalanced, settledBooks, sum } from "../support/books.ts";
import { account, ask, fleet, type Instruction, model, openTier } from "../support/fleet.ts";
import { createSystemFolder, startSystem, type System } from "../support/system.ts";
import { until } from "../support/until.ts";

const prices = {
  [model]: { input: 3, output: 15 },
  // A price at which almost every request ends between two millionths.
  fractions: { input: 0.001, output: 0.3 },
};

const configuration = fleet({
  accounts: [
    account("a-1", {
      credits: 500,
      cost_per_request: 2,
      slots: 8,
      models: { [model]: "m", fractions: "m", free: "m" },
    }),
  ],
  prices,
  tiers: { default: openTier, half: { ...openTier, ratio: 0.5 } },
  worker: { first_token_timeout: "1s", idle_timeout: "1s", cancel_grace: "500ms" },
  // What a killed process leaves behind is swept within seconds.
  gateway: { hold_ttl: "9s", sweep_interval: "1s" },
  scheduler: { lease_ttl: "8s", sweep_interval: "1s" },
  registry: { heartbeat_interval: "1s", lease_ttl: "5s", prompt_lease_ttl: "8s" },
});

let folder: string;
let system: System;

async function start(): Promise<System> {
  return startSystem({ folder, configuration });
}

afterEach(async () => {
  await system[Symbol.asyncDispose]();
});

async function keyOf(user: string, quota: number, tier?: string): Promise<string> {
  return (await system.admin.createUser(user, quota, tier)).key;
}

const usageOf = (input: number, output: number) => ({
  inputTokens: input,
  outputTokens: output,
  totalTokens: input + output,
});

async function whole(key: string, instruction: Instruction, name = model): Promise<void> {
  await system.openai({ apiKey: key }).chat.completions.create({ model: name, messages: ask(instruction) });
}

/** Opens a stream, and resolves when its first content is there. */
async function open(key: string, instruction: Instruction) {
  const stream = await system.openai({ apiKey: key }).chat.completions.create({
    model,
    stream: true,
    messages: ask(instruction),
  });
  const iterator = stream[Symbol.asyncIterator]();
  for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
    if (next.value.choices[0]?.delta.content) break;
  }
  return {
    leave: () => stream.controller.abort(),
    /** Reads to its end, of whatever kind. */
    async end() {
      for (let next = await iterator.next(); !next.done; next = await iterator.next());
    },
  };
}

describe("a price", () => {
  beforeEach(async () => {
    folder = await createSystemFolder();
    system = await start();
  });

  afterEach(async () => {
    await rm(folder, { recursive: true, force: true });
  });

  it("is applied to the millionth, and rounded up once", async () => {
    const full = await keyOf("full", 1);
    // 1,000 × $3 + 500 × $15 per million tokens = $0.0105
    await whole(full, { do: "answer", usage: usageOf(1_000, 500) });
    // 1,001 × $0.001 + 7 × $0.3 = 3.101 millionths
    await whole(full, { do: "answer", usage: usageOf(1_001, 7) }, "fractions");
    await whole(full, { do: "answer", usage: usageOf(1_000, 500) }, "free");
    const books = await settledBooks(system.admin, "full");
    expect(books.usage.map(({ model: name, cost, source }) => [name, cost, source])).toEqual([
      ["free", 0, "reported"],
      ["fractions", 4, "reported"],
      [model, 10_500, "reported"],
    ]);
    expect(books.user).toMatchObject({ granted: 1_000_000, available: 1_000_000 - 10_504, held: 0, spent: 10_504 });

    const half = await keyOf("half", 1, "half");
    await whole(half, { do: "answer", usage: usageOf(1_000, 500) });
    expect((await settledBooks(system.admin, "half")).user.spent).toBe(5_250);

    const [row] = (await settledBooks(system.admin, "full")).accounts;
    expect(row).toMatchObject({ granted: 500_000, held: 0, spent: 4 * 2_000, credits: 500_000 - 4 * 2_000 });
  });

  it("is paid once for each of many requests that end in every way", async () => {
    const key = await keyOf("mixed", 5);
    const usage = usageOf(100, 10);
    const finished = Array.from({ length: 10 }, () => whole(key, { do: "answer", usage }));
    const left = Array.from({ length: 5 }, async () => {
      const stream = await open(key, { do: "answer", chunks: 10_000, pause_ms: 10 });
      stream.leave();
    });
    const broken = Array.from({ length: 3 }, async () => {
      const stream = await open(key, { do: "error", chunks: 2, message: "broken" });
      await expect(stream.end()).rejects.toThrow();
    });
    const silent = Array.from({ length: 2 }, async () => {
      const stream = await open(key, { do: "hang", chunks: 2 });
      await expect(stream.end()).rejects.toThrow();
    });
    const never = Array.from({ length: 2 }, () => expect(whole(key, { do: "hang" })).rejects.toThrow());
    await Promise.all([...finished, ...left, ...broken, ...silent, ...never]);

    const books = await settledBooks(system.admin, "mixed");
    const ends = Object.groupBy(books.usage, (row) => row.end);
    expect(Object.fromEntries(Object.entries(ends).map(([end, rows]) => [end, rows?.length]))).toEqual({
      finished: 10,
      cancelled: 5,
      failed_after_content: 3,
      timeout: 2,
      failed_before_content: 2,
    });
    for (const row of ends["finished"] ?? []) expect(row.cost).toBe(100 * 3 + 10 * 15);
    for (const row of ends["failed_before_content"] ?? []) expect(row.cost).toBe(0);
    for (const end of ["cancelled", "failed_after_content", "timeout"]) {
      for (const row of ends[end] ?? []) expect(row.cost).toBe(row.input_tokens * 3 + row.output_tokens * 15);
    }
    expect(sum(books.usage.map((row) => row.credits))).toBe(books.accounts[0]?.spent);
  });

  it("is paid once for a request that is sent twice with one Idempotency-Key", async () => {
    const key = await keyOf("careful", 1);
    const body = { model, messages: ask({ do: "answer", usage: usageOf(1_000, 500) }) };
    const send = (content: object) =>
      system.request("/v1/chat/completions", { apiKey: key, body: content, headers: { "idempotency-key": "order-1" } });
    const first = await send(body);
    const again = await send(body);
    expect([first.status, again.status]).toEqual([200, 200]);
    expect(await again.json()).toEqual(await first.json());
    expect((await send({ ...body, max_tokens: 5 })).status).toBe(409);
    const { usage, user } = await settledBooks(system.admin, "careful");
    expect(usage).toHaveLength(1);
    expect(user.spent).toBe(10_500);
  });

  it("never takes a balance below zero, whoever asks at once", async () => {
    // Each costs $0.0105; the quota is enough for three of them.
    const key = await keyOf("poor", 0.032);
    const instruction = { do: "answer", usage: usageOf(1_000, 500) };
    const asked = Array.from({ length: 12 }, () =>
      system.request("/v1/chat/completions", {
        apiKey: key,
        body: { model, max_tokens: 500, messages: ask(instruction) },
      }),
    );
    const statuses = (await Promise.all(asked)).map((response) => response.status);
    for (const status of statuses) expect([200, 429]).toContain(status);
    const { user, usage } = await settledBooks(system.admin, "poor");
    expect(usage).toHaveLength(statuses.filter((status) => status === 200).length);
    expect(user.available).toBeGreaterThanOrEqual(0);
    expect(user.spent).toBeLessThanOrEqual(32_000);
  });
});

describe("kill -9", () => {
  beforeEach(async () => {
    folder = await createSystemFolder();
    system = await start();
  });

  afterAll(async () => {
    await rm(folder, { recursive: true, force: true });
  });

  it("of a worker in mid-stream: what was seen is paid, and another worker takes its place", async () => {
    const key = await keyOf("bereft", 1);
    const streams = await Promise.all(
      Array.from({ length: 3 }, () => open(key, { do: "answer", chunks: 10_000, pause_ms: 10 })),
    );
    const pid = (await system.admin.workers())[0]?.pid ?? 0;
    expect(pid).toBeGreaterThan(0);
    process.kill(pid, "SIGKILL");
    for (const stream of streams) await expect(stream.end()).rejects.toThrow();

    const { usage } = await settledBooks(system.admin, "bereft");
    expect(usage.map((row) => row.end)).toEqual(Array(3).fill("failed_after_content"));
    for (const row of usage) {
      expect(row.output_tokens).toBeGreaterThan(0);
      expect(row.cost).toBe(row.input_tokens * 3 + row.output_tokens * 15);
      expect(row.credits).toBe(2_000);
    }
    await until("another worker answers", async () => {
      await whole(key, { do: "answer", usage: usageOf(10, 10) });
      return true;
    });
    const [worker] = await system.admin.workers();
    expect(worker?.pid).not.toBe(pid);
  });

  it("of everything in mid-stream: the hold is swept after the restart, and the books are right all the time", async () => {
    const key = await keyOf("survivor", 1);
    await whole(key, { do: "answer", usage: usageOf(1_000, 500) });
    const stream = await open(key, { do: "answer", chunks: 10_000, pause_ms: 10 });
    const held = await system.admin.user("survivor");
    expect(held.held).toBeGreaterThan(0);
    await system.stop("SIGKILL");
    await expect(stream.end()).rejects.toThrow();
    await system.gone();

    system = await start();
    expectUserBalanced(await system.admin.user("survivor"));
    for (const row of await system.admin.accounts()) expectAccountBalanced(row);
    const { user, usage } = await settledBooks(system.admin, "survivor");
    expect(user.granted).toBe(1_000_000);
    expect(usage).toHaveLength(2);
    expect(usage.map((row) => row.end)).toEqual([expect.stringMatching(/^(?:expired|cancelled)$/), "finished"]);
    await whole(key, { do: "answer", usage: usageOf(1_000, 500) });
    expect((await settledBooks(system.admin, "survivor")).usage).toHaveLength(3);
  });
});
