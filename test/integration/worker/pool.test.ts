import { describe, expect, it } from "vitest";
import { End } from "#gen/drawbridge/v1/usage";
import { Health } from "#gen/drawbridge/v1/worker";
import { until } from "../../support/until.ts";
import { startWorker } from "./harness.ts";

describe("a pool", () => {
  it("completes 200 prompts at once on 8 slots", async () => {
    await using worker = await startWorker({ slots: 8, queue: 200 });
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, index) => worker.prompt({ do: "answer", chunks: 5, text: `${index} ` })),
    );
    for (const [index, { error, text, outcome }] of answers.entries()) {
      expect(error?.reason).toBeUndefined();
      expect(text).toBe(`${index} `.repeat(5));
      expect(outcome?.end).toBe(End.FINISHED);
    }
    const pool = await worker.pool();
    expect(pool).toMatchObject({ slots: 8, availableSlots: 8, queueDepth: 0, health: Health.HEALTHY });
    expect(pool.processes).toBeLessThanOrEqual(8);
    await until("all outcomes are delivered", () => worker.registry.outcomes.size === 200);
  });

  it("knows its slots and its queue, and refuses what is beyond", async () => {
    await using worker = await startWorker({ slots: 2, queue: 1 });
    await worker.ready();
    expect(await worker.pool()).toMatchObject({
      slots: 2,
      availableSlots: 2,
      queueLimit: 1,
      queueDepth: 0,
      generation: 7n,
    });
    const ids = ["att_1", "att_2", "att_3"];
    const running = ids.map((attemptId) => worker.prompt({ do: "hang", chunks: 1 }, { attemptId }));
    await until("two run and one waits", async () => {
      const { availableSlots, queueDepth } = await worker.pool();
      return availableSlots === 0 && queueDepth === 1;
    });
    const { error, outcome } = await worker.prompt({ do: "answer" });
    expect(error?.reason).toBe("QUEUE_FULL");
    expect(outcome).toBeUndefined();
    for (const attemptId of ids) await worker.calls.cancelPrompt({ attemptId });
    await Promise.all(running);
    await until("all is free", async () => (await worker.pool()).availableSlots === 2);
  });

  it("refuses what it cannot serve", async () => {
    await using worker = await startWorker();
    const request = {
      requestId: "req_1",
      attemptId: "att_1",
      accountId: "account/1",
      prompt: { model: "test/model-1", messages: [] },
    };
    const reasonOf = async (fields: Record<string, unknown>) => {
      try {
        for await (const _ of worker.calls.prompt({ ...request, ...fields }));
      } catch (error) {
        return (error as { reason: string }).reason;
      }
      return undefined;
    };
    expect(await reasonOf({ accountId: "nobody" })).toBe("NOT_FOUND");
    expect(await reasonOf({ prompt: { model: "no-such-model" } })).toBe("MODEL_NOT_FOUND");
    expect(await reasonOf({ prompt: { model: "constructor" } })).toBe("MODEL_NOT_FOUND");
    expect(await reasonOf({ workerIncarnation: "another" })).toBe("LEASE_INVALID");
  });

  it("has a process ready before a prompt comes, and grows only when it must", async () => {
    await using worker = await startWorker({ slots: 4 });
    await worker.ready();
    expect((await worker.pool()).processes).toBe(1);
    for (let turn = 0; turn < 3; turn++) expect((await worker.prompt({ do: "answer" })).error?.reason).toBeUndefined();
    await until("one process is left", async () => (await worker.pool()).processes === 1);
    await Promise.all(Array.from({ length: 3 }, () => worker.prompt({ do: "answer", delay_ms: 500 })));
    expect((await worker.pool()).processes).toBeGreaterThan(1);
  });

  it("replaces a process that has run its turns, with a process ready all the time", async () => {
    await using worker = await startWorker({ settings: { process_turns_max: 2 } });
    const pids = new Set<unknown>();
    for (let turn = 0; turn < 8; turn++) {
      const { text, error } = await worker.prompt({ do: "environment" });
      expect(error?.reason).toBeUndefined();
      pids.add((JSON.parse(text) as { env: Record<string, string> }).env["DRAWBRIDGE_AGENT"]);
      await until("a process is ready", async () => (await worker.pool()).health === Health.HEALTHY);
      await new Promise((resolve) => setTimeout(resolve, 150));
    }
    expect(pids.size).toBeGreaterThan(1);
    await until("the others are gone", async () => (await worker.processes()).length === 1);
  });

  it.skipIf(process.platform !== "linux")("replaces a process that has grown", async () => {
    await using worker = await startWorker({
      settings: { process_memory_max: "180MiB", process_memory_interval: "10ms" },
    });
    const tagOf = async () => {
      const { text } = await worker.prompt({ do: "environment" });
      return (JSON.parse(text) as { env: Record<string, string> }).env["DRAWBRIDGE_AGENT"];
    };
    const first = await tagOf();
    expect(await tagOf()).toBe(first);
    await worker.prompt({ do: "grow", bytes: 200_000_000 });
    await until("another process has taken its place", async () => (await tagOf()) !== first);
    await until("it is gone", async () => (await worker.processes()).length === 1);
  });

  it("ends processes that have nothing to do", async () => {
    await using worker = await startWorker({ slots: 3, settings: { process_idle_timeout: "100ms" } });
    await Promise.all(Array.from({ length: 3 }, () => worker.prompt({ do: "answer", delay_ms: 600 })));
    expect((await worker.pool()).processes).toBeGreaterThan(1);
    await until("one process is left", async () => (await worker.pool()).processes === 1);
    expect((await worker.prompt({ do: "answer" })).error?.reason).toBeUndefined();
  });

  it("chooses the model where the agent offers it", async () => {
    const models = { "test/model-1": "small", "test/model-2": "large", "test/model-3": "unknown" };
    await using worker = await startWorker({ models, agentArguments: ["--models", "small,large"] });
    const modelFor = async (model: string) => {
      const { text } = await worker.prompt({ do: "environment" }, { prompt: { model } });
      return (JSON.parse(text) as { model: string }).model;
    };
    expect(await modelFor("test/model-2")).toBe("large");
    expect(await modelFor("test/model-1")).toBe("small");
    expect(await modelFor("test/model-3")).toBe("small");
  });

  it("drains: refuses new prompts, finishes what runs and waits, then ends", async () => {
    await using worker = await startWorker({ slots: 1, queue: 4 });
    await worker.ready();
    const running = worker.prompt({ do: "answer", chunks: 3, delay_ms: 300 });
    const waiting = worker.prompt({ do: "answer", chunks: 2 });
    await until("one waits", async () => (await worker.pool()).queueDepth === 1);
    expect(await worker.calls.drain({})).toMatchObject({ inFlight: 2 });
    expect((await worker.calls.getHealth({})).worker?.health).toBe(Health.DRAINING);
    expect((await worker.prompt({ do: "answer" })).error?.reason).toBe("DRAINING");
    expect((await running).outcome?.end).toBe(End.FINISHED);
    expect((await waiting).outcome?.end).toBe(End.FINISHED);
    await worker.app.drained;
    expect(await worker.processes()).toEqual([]);
    expect(worker.registry.removed).toEqual(["worker-1"]);
    expect(worker.registry.outcomes.size).toBe(2);
  });

  it("cancels what is left when the grace is over", async () => {
    await using worker = await startWorker({ slots: 1, queue: 4 });
    await worker.ready();
    const running = worker.prompt({ do: "hang", chunks: 1 });
    const waiting = worker.prompt({ do: "answer" });
    await until("one waits", async () => (await worker.pool()).queueDepth === 1);
    await worker.app.drain(50);
    expect(await running).toMatchObject({ outcome: { end: End.FAILED_AFTER_CONTENT }, error: { reason: "DRAINING" } });
    expect(await waiting).toMatchObject({ outcome: { end: End.FAILED_BEFORE_CONTENT }, error: { reason: "DRAINING" } });
    expect(await worker.processes()).toEqual([]);
  });
});
