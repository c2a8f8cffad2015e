import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { OutcomeSchema } from "#gen/drawbridge/v1/usage";
import { Health } from "#gen/drawbridge/v1/worker";
import { DrawbridgeError } from "../../../services/kit/errors.ts";
import { silentLog } from "../../../services/kit/log.ts";
import { folderName } from "../../../services/worker/process/environment.ts";
import { createOutbox } from "../../../services/worker/presence/outbox.ts";
import { poolHealth, workerHealth } from "../../../services/worker/pool/pool-health.ts";
import { findModelChoice } from "../../../services/worker/protocol/session-model.ts";
import { createTextRing } from "../../../services/worker/process/text-ring.ts";
import { watchActivity } from "../../../services/worker/turn/turn-deadlines.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

describe("the outbox", () => {
  const outcome = (attemptId: string) => create(OutcomeSchema, { attemptId });
  it("keeps the order, forgets what is acknowledged, and drops the oldest beyond its limit", () => {
    const outbox = createOutbox({ sizeMax: 3, log: silentLog });
    for (const id of ["a", "b", "c", "d"]) outbox.add(outcome(id));
    expect(outbox.oldest(2).map(({ attemptId }) => attemptId)).toEqual(["b", "c"]);
    outbox.acknowledge(["b", "unknown"]);
    expect(outbox.oldest(9).map(({ attemptId }) => attemptId)).toEqual(["c", "d"]);
  });
});

describe("the text ring", () => {
  it("keeps the end, and knows marks", () => {
    const ring = createTextRing(10);
    ring.push(Buffer.from("12345"));
    const mark = ring.position;
    ring.push(Buffer.from("abc"));
    expect(ring.text(mark)).toBe("abc");
    ring.push(Buffer.from("defghijk"));
    expect(ring.text(mark)).toBe("defghijk");
    ring.push(Buffer.from("x".repeat(50)));
    expect(ring.text()).toBe("x".repeat(10));
  });
});

describe("an account's folder", () => {
  it.each(["../..", "a/b", "a\\b", "", ".", "ä".repeat(300)])("for %j is one safe name", (id) => {
    expect(folderName(id)).toMatch(/^[A-Za-z0-9_-]{1,51}$/);
  });
  it("differs where ids do", () => {
    expect(folderName("a/b")).not.toBe(folderName("a_b"));
  });
});

describe("choosing a model", () => {
  const option = {
    id: "llm",
    category: "model",
    options: [{ group: "g", options: [{ value: "v1", name: "Model One" }] }],
  };
  it.each([
    [{ configOptions: [option] }, "v1", { kind: "option", configId: "llm", value: "v1" }],
    [{ configOptions: [option] }, "Model One", { kind: "option", configId: "llm", value: "v1" }],
    [{ models: { availableModels: [{ modelId: "m" }] } }, "m", { kind: "set_model", modelId: "m" }],
    [{ configOptions: [option] }, "other", { kind: "none" }],
    [{ configOptions: "nonsense", models: 3 }, "m", { kind: "none" }],
  ])("from %j", (opened, model, choice) => {
    expect(findModelChoice(opened, model)).toEqual(choice);
  });
});

describe("health", () => {
  const facts = { draining: false, usable: 1, everReady: true, failures: 0, lastFailure: undefined };
  const crash = new DrawbridgeError("AGENT_CRASHED", "gone");
  const refused = new DrawbridgeError("AGENT_UNAUTHENTICATED", "no");
  it.each([
    [facts, Health.HEALTHY],
    [{ ...facts, draining: true }, Health.DRAINING],
    [{ ...facts, usable: 0, everReady: false }, Health.DEGRADED],
    [{ ...facts, failures: 1, lastFailure: crash }, Health.DEGRADED],
    [{ ...facts, usable: 0, failures: 1, lastFailure: crash }, Health.DEGRADED],
    [{ ...facts, usable: 0, failures: 2, lastFailure: crash }, Health.UNHEALTHY],
    [{ ...facts, usable: 0, failures: 1, lastFailure: refused }, Health.UNHEALTHY],
  ])("of the pool %#", (pool, health) => {
    expect(poolHealth(pool).health).toBe(health);
  });

  it("of a worker is unhealthy only when no pool works", () => {
    const healthy = { health: Health.HEALTHY, reason: "" };
    const ill = { health: Health.UNHEALTHY, reason: "why" };
    expect(workerHealth([healthy, ill], false)).toEqual({ health: Health.DEGRADED, reason: "why" });
    expect(workerHealth([ill, ill], false).health).toBe(Health.UNHEALTHY);
    expect(workerHealth([healthy], true).health).toBe(Health.DRAINING);
  });
});

describe("the deadlines of a turn", () => {
  function watch() {
    const clock = new VirtualClock();
    const late: DrawbridgeError[] = [];
    const connection = { paused: false };
    const config = { first_token_timeout: 1_000, idle_timeout: 100 };
    const activity = watchActivity({ config, clock, agent: { connection } }, (error) => late.push(error));
    return { clock, late, connection, activity };
  }

  it("wait for the first sign of work, whatever else is heard", async () => {
    const { clock, late, activity } = watch();
    await clock.advance(900);
    activity.seen();
    await clock.advance(99);
    expect(late).toEqual([]);
    await clock.advance(1);
    expect(late[0]?.reason).toBe("DEADLINE_EXCEEDED");
  });

  it("then for each next sign", async () => {
    const { clock, late, activity } = watch();
    activity.started();
    for (let step = 0; step < 10; step++) {
      await clock.advance(90);
      activity.seen();
    }
    expect(late).toEqual([]);
    await clock.advance(100);
    expect(late).toHaveLength(1);
  });

  it("do not count the time in which the agent is not read", async () => {
    const { clock, late, activity, connection } = watch();
    activity.started();
    connection.paused = true;
    await clock.advance(5_000);
    expect(late).toEqual([]);
    connection.paused = false;
    await clock.advance(200);
    expect(late).toHaveLength(1);
  });
});
