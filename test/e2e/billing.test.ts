// Every request settles exactly once: in one process, with every service apart, and however processes end.
import { rm } from "node:fs/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { expectAccountBalanced, expectUserBalanced, settledBooks } from "../support/books.ts";
import { eachSystem } from "../support/each-system.ts";
import { type SplitSystem, startSplitSystem, twoOfEach } from "../support/split-system.ts";
import { createSystemFolder, startSystem, type System } from "../support/system.ts";
import { configuration, keyOf, open, usageOf, whole } from "./scenarios/billed-requests.ts";
import { billingScenarios } from "./scenarios/billing.ts";

describe.each(eachSystem)("$name", ({ start }) => billingScenarios(start));

describe("kill -9 of up", () => {
  let folder: string;
  let system: System;
  const start = () => startSystem({ folder, configuration });

  beforeAll(async () => {
    folder = await createSystemFolder();
    system = await start();
  });

  afterAll(async () => {
    await system?.[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  it("of everything in mid-stream: the hold is swept after the restart, and the books are right all the time", async () => {
    const key = await keyOf(system, "survivor", 1);
    await whole(system, key, { do: "answer", usage: usageOf(1_000, 500) });
    const stream = await open(system, key, { do: "answer", chunks: 10_000, pause_ms: 10 });
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
    await whole(system, key, { do: "answer", usage: usageOf(1_000, 500) });
    expect((await settledBooks(system.admin, "survivor")).usage).toHaveLength(3);
  });
});

describe("kill -9 of one of two, in mid-stream", () => {
  let system: SplitSystem;

  beforeAll(async () => {
    system = await startSplitSystem({ configuration, counts: twoOfEach });
  });

  afterAll(async () => {
    await system?.[Symbol.asyncDispose]();
  });

  it("of a gateway: what was produced is paid, once, and the other one goes on", async () => {
    const key = await keyOf(system, "gateways", 1);
    const endless = { do: "answer", chunks: 10_000, pause_ms: 10 };
    const streams = await Promise.all(Array.from({ length: 4 }, () => open(system.gateway(1), key, endless)));
    await system.kill("gateway-2");
    for (const stream of streams) await expect(stream.end()).rejects.toThrow();
    const { usage } = await settledBooks(system.admin, "gateways");
    expect(usage.map((row) => row.end)).toEqual(Array(4).fill("cancelled"));
    for (const row of usage) {
      expect(row.output_tokens).toBeGreaterThan(0);
      expect(row.cost).toBe(row.input_tokens * 3 + row.output_tokens * 15);
      expect(row.credits).toBe(2_000);
    }
    await whole(system.gateway(0), key, { do: "answer" });
    system.start("gateway-2");
    await system.ready(1);
  });

  it.each(["scheduler", "registry"] as const)(
    "of a %s: streams go on to their end, and are paid exactly",
    async (service) => {
      const key = await keyOf(system, `of-${service}`, 1);
      const long = { do: "answer", chunks: 100, pause_ms: 10, usage: usageOf(1_000, 500) };
      const streams = await Promise.all(Array.from({ length: 4 }, () => open(system, key, long)));
      await system.kill(`${service}-1`);
      await Promise.all(streams.map((stream) => stream.end()));
      system.start(`${service}-1`);
      const { usage } = await settledBooks(system.admin, `of-${service}`);
      expect(usage.map(({ end, cost, credits }) => [end, cost, credits])).toEqual(
        Array(4).fill(["finished", 10_500, 2_000]),
      );
    },
  );
});
