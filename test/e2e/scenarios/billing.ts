// Every request settles exactly once, at the exact price, however it or a worker ends.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { settledBooks, sum } from "../../support/books.ts";
import { model, ask } from "../../support/fleet.ts";
import type { ServingSystem, StartServing } from "../../support/serving-system.ts";
import { until } from "../../support/until.ts";
import { configuration, keyOf, open, usageOf, whole } from "./billed-requests.ts";

export function billingScenarios(start: StartServing): void {
  let system: ServingSystem;

  beforeAll(async () => {
    system = await start(configuration);
  });

  afterAll(async () => {
    await system?.[Symbol.asyncDispose]();
  });

  const accountSpent = async () => (await system.admin.accounts())[0]?.spent ?? 0;

  describe("a price", () => {
    it("is applied to the millionth, and rounded up once", async () => {
      const before = await accountSpent();
      const full = await keyOf(system, "full", 1);
      // 1,000 × $3 + 500 × $15 per million tokens = $0.0105
      await whole(system, full, { do: "answer", usage: usageOf(1_000, 500) });
      // 1,001 × $0.001 + 7 × $0.3 = 3.101 millionths
      await whole(system, full, { do: "answer", usage: usageOf(1_001, 7) }, "fractions");
      await whole(system, full, { do: "answer", usage: usageOf(1_000, 500) }, "free");
      const books = await settledBooks(system.admin, "full");
      expect(books.usage.map(({ model: name, cost, source }) => [name, cost, source])).toEqual([
        ["free", 0, "reported"],
        ["fractions", 4, "reported"],
        [model, 10_500, "reported"],
      ]);
      expect(books.user).toMatchObject({ granted: 1_000_000, available: 1_000_000 - 10_504, held: 0, spent: 10_504 });

      const half = await keyOf(system, "half", 1, "half");
      await whole(system, half, { do: "answer", usage: usageOf(1_000, 500) });
      expect((await settledBooks(system.admin, "half")).user.spent).toBe(5_250);

      const [row] = (await settledBooks(system.admin, "full")).accounts;
      const spent = before + 4 * 2_000;
      expect(row).toMatchObject({ granted: 500_000, held: 0, spent, credits: 500_000 - spent });
    });

    it("is paid once for each of many requests that end in every way", async () => {
      const before = await accountSpent();
      const key = await keyOf(system, "mixed", 5);
      const usage = usageOf(100, 10);
      const finished = Array.from({ length: 10 }, () => whole(system, key, { do: "answer", usage }));
      const left = Array.from({ length: 5 }, async () => {
        const stream = await open(system, key, { do: "answer", chunks: 10_000, pause_ms: 10 });
        stream.leave();
      });
      const broken = Array.from({ length: 3 }, async () => {
        const stream = await open(system, key, { do: "error", chunks: 2, message: "broken" });
        await expect(stream.end()).rejects.toThrow();
      });
      const silent = Array.from({ length: 2 }, async () => {
        const stream = await open(system, key, { do: "hang", chunks: 2 });
        await expect(stream.end()).rejects.toThrow();
      });
      const never = Array.from({ length: 2 }, () => expect(whole(system, key, { do: "hang" })).rejects.toThrow());
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
      expect(before + sum(books.usage.map((row) => row.credits))).toBe(books.accounts[0]?.spent);
    });

    it("is paid once for a request that is sent again with one Idempotency-Key", async () => {
      const key = await keyOf(system, "careful", 1);
      const body = { model, messages: ask({ do: "answer", usage: usageOf(1_000, 500) }) };
      const send = (content: object) =>
        system.request("/v1/chat/completions", {
          apiKey: key,
          body: content,
          headers: { "idempotency-key": "order-1" },
        });
      const first = await send(body);
      expect(first.status).toBe(200);
      // Another gateway has not kept the answer: it refuses, and bills nothing. With the next one it is the first one's turn again.
      for (const _ of system.urls.slice(1)) expect((await send(body)).status).toBe(409);
      const again = await send(body);
      expect(again.status).toBe(200);
      expect(await again.json()).toEqual(await first.json());
      expect((await send({ ...body, max_tokens: 5 })).status).toBe(409);
      const { usage, user } = await settledBooks(system.admin, "careful");
      expect(usage).toHaveLength(1);
      expect(user.spent).toBe(10_500);
    });

    it("never takes a balance below zero, whoever asks at once", async () => {
      // Each costs $0.0105; the quota is enough for three of them.
      const key = await keyOf(system, "poor", 0.032);
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
    it("of a worker in mid-stream: what was seen is paid, and another worker takes its place", async () => {
      const key = await keyOf(system, "bereft", 1);
      const streams = await Promise.all(
        Array.from({ length: 3 }, () => open(system, key, { do: "answer", chunks: 10_000, pause_ms: 10 })),
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
        await whole(system, key, { do: "answer", usage: usageOf(10, 10) });
        return true;
      });
      const [worker] = await system.admin.workers();
      expect(worker?.pid).not.toBe(pid);
    });
  });
}
