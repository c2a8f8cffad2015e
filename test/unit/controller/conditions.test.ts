import { create } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { type Breaker, BreakerSchema, BreakerState, type Condition } from "#gen/drawbridge/v1/account";
import { Health } from "#gen/drawbridge/v1/worker";
import { conditions } from "../../../services/controller/conditions.ts";
import { account, now, planOf, processOf, type Scene, worker } from "./fixtures.ts";

interface Facts extends Scene {
  readonly breaker?: Breaker;
  readonly lastFailure?: string;
  readonly previous?: readonly Condition[];
  readonly at?: number;
}

function conditionsOf({ breaker, lastFailure, previous = [], at = now, ...scene }: Facts): readonly Condition[] {
  const [summary] = planOf(scene).summaries;
  if (!summary) throw new Error("no account");
  return conditions({ summary, breaker, lastFailure }, previous, at);
}

function stated(facts: Facts): Record<string, string> {
  return Object.fromEntries(conditionsOf(facts).map(({ type, status, reason }) => [type, `${status} ${reason}`]));
}

const a = account("a");
const serving: Scene = { accounts: [a], processes: [processOf("a-1", a)], workers: [worker("a-1", "a")] };

function breaker(fields: object): Breaker {
  return create(BreakerSchema, { accountId: "a", state: BreakerState.OPEN, reason: "Login expired.", ...fields });
}

describe("conditions", () => {
  it("say that all is well", () => {
    expect(stated(serving)).toEqual({
      Ready: "true WorkersReady",
      Progressing: "false Settled",
      Degraded: "false AsWanted",
      CreditsExhausted: "false CreditsLeft",
      Unauthorized: "false NotRefused",
    });
  });

  it("tell starting from ready: a pool whose first agent starts is not ready yet, and one that was ready stays so", () => {
    expect(stated({ accounts: [a] })).toMatchObject({ Ready: "false Starting", Progressing: "true Starting" });
    const degraded = { ...serving, workers: [worker("a-1", "a", { health: Health.DEGRADED })] };
    expect(stated(degraded)).toMatchObject({ Ready: "false WorkersNotHealthy", Degraded: "true WorkerNotHealthy" });
    expect(stated({ ...degraded, previous: conditionsOf(serving) })).toMatchObject({ Ready: "true WorkersReady" });
  });

  it("say why there are no workers", () => {
    expect(stated({ accounts: [account("a", {}, { available: 0n })] })).toMatchObject({
      Ready: "false CreditsExhausted",
      CreditsExhausted: "true NoCredits",
      Progressing: "false Settled",
    });
    expect(stated({ accounts: [account("a", { workers: { min: 0, max: 1 } })] })).toMatchObject({
      Ready: "false Idle",
    });
    const failing = { accounts: [a], retryAt: new Map([["a", now + 1]]), lastFailure: "It crashed." };
    expect(stated(failing)).toMatchObject({
      Ready: "false BackOff",
      Progressing: "true BackOff",
      Degraded: "true WorkersFailing",
    });
    expect(conditionsOf(failing)[0]?.message).toBe("It crashed.");
  });

  it("tell a drained account, and a roll", () => {
    const drained = account("a", { drained: true });
    expect(stated({ ...serving, accounts: [drained] })).toMatchObject({ Ready: "false Drained" });
    const changed = account("a", { slots: 9 }, { generation: 2n });
    expect(stated({ ...serving, accounts: [changed] })).toMatchObject({
      Ready: "true WorkersReady",
      Progressing: "true Rolling",
    });
  });

  it("tell a refusal that waits for a person from a breaker that closes by itself", () => {
    const refused = { ...serving, breaker: breaker({}) };
    expect(stated(refused)).toMatchObject({ Ready: "false Unauthorized", Unauthorized: "true Refused" });
    expect(conditionsOf(refused)[0]?.message).toContain("Login expired.");
    const open = { ...serving, breaker: breaker({ until: timestampFromMs(now + 1_000) }) };
    expect(stated(open)).toMatchObject({ Degraded: "true BreakerOpen", Unauthorized: "false NotRefused" });
    const closed = { ...serving, breaker: breaker({ state: BreakerState.CLOSED }) };
    expect(stated(closed)).toMatchObject({ Degraded: "false AsWanted" });
  });

  it("are the same array when nothing changed", () => {
    const previous = conditionsOf(serving);
    expect(conditionsOf({ ...serving, previous, at: now + 1 })).toBe(previous);
  });

  it("keep their time while the status stays, and take a new one when it changes", () => {
    const starting = conditionsOf({ accounts: [a] });
    const waiting = conditionsOf({
      accounts: [a],
      retryAt: new Map([["a", now + 9]]),
      previous: starting,
      at: now + 5,
    });
    const timeOf = (list: readonly Condition[], type: string) => {
      const at = list.find((condition) => condition.type === type)?.changedAt;
      return at && timestampMs(at);
    };
    expect(timeOf(waiting, "Ready")).toBe(now);
    expect(timeOf(waiting, "Degraded")).toBe(now + 5);
  });
});
