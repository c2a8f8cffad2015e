import { describe, expect, it } from "vitest";
import { Health } from "#gen/drawbridge/v1/worker";
import { DrawbridgeError } from "../../../services/kit/errors.ts";
import { until } from "../../support/until.ts";
import { startWorker } from "./harness.ts";

describe("a worker's registration", () => {
  it("says who it is, and beats when its slots change", async () => {
    await using worker = await startWorker({ slots: 2 });
    const registered = await until("it registers", () => worker.registry.registered[0]);
    expect(registered).toMatchObject({ id: "worker-1", incarnation: "inc_1", version: "test", pid: process.pid });
    expect(registered.pools[0]).toMatchObject({ accountId: "account/1", models: ["test/model-1"], slots: 2 });
    await worker.ready();
    const running = worker.prompt({ do: "hang", chunks: 1 }, { attemptId: "att_1" });
    await until("a beat tells of the prompt", () =>
      worker.registry.beats.some(
        ({ worker: beating, runningAttemptIds }) =>
          runningAttemptIds.includes("att_1") && beating?.pools[0]?.availableSlots === 1,
      ),
    );
    await worker.calls.cancelPrompt({ attemptId: "att_1" });
    await running;
    await until("a beat tells of its end", () => {
      const last = worker.registry.beats.at(-1);
      return last?.runningAttemptIds.length === 0 && last.worker?.pools[0]?.availableSlots === 2;
    });
    expect(worker.registry.beats.at(-1)?.worker).toMatchObject({ health: Health.HEALTHY, healthReason: "" });
  });

  it("is renewed when the registry lost it", async () => {
    await using worker = await startWorker();
    await until("it registers", () => worker.registry.registered.length === 1);
    worker.registry.refuse(new DrawbridgeError("NOT_FOUND", "Register again."));
    await until("it registers again", () => worker.registry.registered.length === 2);
  });

  it("keeps outcomes while the registry is away, and delivers them when it is back", async () => {
    await using worker = await startWorker();
    await until("it registers", () => worker.registry.registered.length === 1);
    worker.registry.refuse(new DrawbridgeError("STATE_UNAVAILABLE", "Away."));
    const attempts: string[] = [];
    for (let turn = 0; turn < 5; turn++) attempts.push((await worker.prompt({ do: "answer" })).attemptId);
    expect(worker.registry.outcomes.size).toBe(0);
    worker.registry.refuse(undefined);
    await until("all outcomes arrive", () => attempts.every((id) => worker.registry.outcomes.has(id)));
  });

  it("delivers outcomes when it ends, even if the registry was just away", async () => {
    await using worker = await startWorker();
    await until("it registers", () => worker.registry.registered.length === 1);
    worker.registry.refuse(new DrawbridgeError("STATE_UNAVAILABLE", "Away."));
    const { attemptId } = await worker.prompt({ do: "answer" });
    const drained = worker.app.drain(0);
    setTimeout(() => worker.registry.refuse(undefined), 300);
    await drained;
    expect([...worker.registry.outcomes.keys()]).toContain(attemptId);
  });

  it("ends by itself when neither registry nor controller is heard, and not while one of them is", async () => {
    await using worker = await startWorker({ settings: { orphan_timeout: "300ms" } });
    await until("it registers", () => worker.registry.registered.length === 1);
    worker.registry.refuse(new DrawbridgeError("STATE_UNAVAILABLE", "Away."));
    let over = false;
    void worker.app.drained.then(() => (over = true));
    const asking = setInterval(() => void worker.calls.getHealth({}), 20);
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    clearInterval(asking);
    expect(over).toBe(false);
    await until("it has ended", () => over);
  });

  it("refuses to drain for a leader that has been replaced", async () => {
    await using worker = await startWorker();
    await expect(worker.calls.drain({ epoch: 0n })).resolves.toBeDefined();
    await worker.calls.drain({ epoch: 5n });
    await expect(worker.calls.drain({ epoch: 4n })).rejects.toMatchObject({ reason: "NOT_LEADER" });
  });
});
