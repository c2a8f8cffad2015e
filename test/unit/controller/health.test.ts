import { create } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { Health, type Worker, WorkerSchema } from "#gen/drawbridge/v1/worker";
import type { WorkerService } from "#gen/drawbridge/v1/worker_service";
import { createHealthChecks } from "../../../services/controller/health.ts";
import { DrawbridgeError } from "../../../services/kit/errors.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

const unaborted = new AbortController().signal;
const worker = (id: string, fields: Partial<Pick<Worker, "incarnation" | "health" | "address">> = {}) =>
  create(WorkerSchema, { id, incarnation: "i", address: `http://${id}`, health: Health.HEALTHY, ...fields });

/** Addresses, and who answers there. */
function given() {
  const clock = new VirtualClock();
  const answering = new Map<string, Worker>();
  const checks = createHealthChecks({
    clock,
    timeoutMs: 1_000,
    worker: (address) =>
      ({
        async getHealth() {
          const found = answering.get(address);
          if (!found) throw new DrawbridgeError("WORKER_UNREACHABLE", `Nobody answers at ${address}.`);
          return { worker: found };
        },
      }) as unknown as Client<typeof WorkerService>,
  });
  return { clock, answering, checks };
}

describe("health checks", () => {
  it("count those in a row that are not answered, and begin anew with an answer", async () => {
    const { answering, checks } = given();
    const a = worker("a");
    for (let count = 1; count <= 3; count++) {
      await checks.round([a], ["a"], unaborted);
      expect(checks.records.get("a")).toMatchObject({ unanswered: count, proven: false });
    }
    answering.set(a.address, a);
    expect(await checks.round([a], ["a"], unaborted)).toBe(true);
    expect(checks.records.get("a")).toMatchObject({ unanswered: 0, proven: true });
    expect(await checks.round([a], ["a"], unaborted)).toBe(false);
  });

  it("take the answer of another worker at its address for none: its host has been recycled", async () => {
    const { answering, checks } = given();
    const a = worker("a", { address: "http://10.0.0.7:7070" });
    answering.set(a.address, a);
    await checks.round([a], ["a"], unaborted);
    answering.set(a.address, worker("b"));
    for (let count = 0; count < 3; count++) await checks.round([a], ["a"], unaborted);
    expect(checks.records.get("a")).toMatchObject({
      unanswered: 3,
      proven: true,
      reason: "another worker (b) answers at http://10.0.0.7:7070",
    });
  });

  it("say nothing of the next run of a worker by the last one's silence", async () => {
    const { answering, checks } = given();
    await checks.round([worker("a")], ["a"], unaborted);
    await checks.round([worker("a")], ["a"], unaborted);
    const next = worker("a", { incarnation: "next" });
    await checks.round([next], ["a"], unaborted);
    expect(checks.records.get("a")).toMatchObject({ incarnation: "next", unanswered: 1 });
    answering.set(next.address, next);
    await checks.round([next], ["a"], unaborted);
    expect(checks.records.get("a")).toMatchObject({ incarnation: "next", unanswered: 0 });
  });

  it("go on asking a worker that runs and lost its registration, and forget one that does neither", async () => {
    const { answering, checks } = given();
    const a = worker("a");
    answering.set(a.address, a);
    await checks.round([a], ["a"], unaborted);
    await checks.round([], ["a"], unaborted);
    expect(checks.records.get("a")).toMatchObject({ unanswered: 0 });
    await checks.round([], [], unaborted);
    expect(checks.records.has("a")).toBe(false);
  });

  it("remember since when a worker says that it is unhealthy, through answers that do not come", async () => {
    const { clock, answering, checks } = given();
    const a = worker("a", { health: Health.UNHEALTHY });
    answering.set(a.address, a);
    await checks.round([a], ["a"], unaborted);
    const since = clock.now();
    await clock.advance(5_000);
    answering.clear();
    await checks.round([a], ["a"], unaborted);
    expect(checks.records.get("a")).toMatchObject({ unanswered: 1, unhealthySince: since });
    answering.set(a.address, worker("a"));
    await checks.round([a], ["a"], unaborted);
    expect(checks.records.get("a")?.unhealthySince).toBeUndefined();
  });
});
