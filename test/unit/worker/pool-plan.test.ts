import { describe, expect, it } from "vitest";
import { type MemberView, type Phase, planPool, type PoolView } from "../../../services/worker/pool/pool-plan.ts";

let nextId = 1;
const member = (phase: Phase, fields: Partial<MemberView> = {}): MemberView => ({
  id: nextId++,
  phase,
  model: "m",
  turns: 0,
  startedAtMs: 0,
  readyAtMs: 0,
  memoryBytes: 0,
  ...fields,
});
const waiters = (...models: string[]) => models.map((model, index) => ({ id: 100 + index, model }));
const view = (fields: Partial<PoolView>): PoolView => ({
  nowMs: 1_000,
  slots: 4,
  processesMin: 1,
  members: [],
  waiters: [],
  modelAtStart: false,
  defaultModel: "m",
  startsAllowed: 2,
  turnsMax: 10,
  ageMaxMs: 100_000,
  memoryBytesMax: 1_000,
  idleMaxMs: 5_000,
  ...fields,
});
const kinds = (fields: Partial<PoolView>) => planPool(view(fields)).map(({ kind }) => kind);

describe("the plan of a pool", () => {
  it("starts the minimum, and not while backing off", () => {
    expect(planPool(view({}))).toEqual([{ kind: "start", model: "m" }]);
    expect(planPool(view({ startsAllowed: 0 }))).toEqual([]);
    expect(planPool(view({ members: [member("starting")] }))).toEqual([]);
  });

  it("gives ready processes to the first who wait, the one used last first", () => {
    const old = member("ready", { readyAtMs: 1 });
    const recent = member("ready", { readyAtMs: 9 });
    expect(planPool(view({ members: [old, recent], waiters: waiters("m") }))).toEqual([
      { kind: "assign", waiter: 100, member: recent.id },
    ]);
    expect(planPool(view({ members: [old], waiters: waiters("m", "m"), slots: 1 }))).toEqual([
      { kind: "assign", waiter: 100, member: old.id },
    ]);
  });

  it("gives a conversation the process that holds it, if that is free, and else any", () => {
    const holder = member("ready", { readyAtMs: 1 });
    const recent = member("ready", { readyAtMs: 9 });
    const [waiter] = waiters("m");
    const wanted = [{ id: 100, model: "m", preferred: holder.id }];
    expect(planPool(view({ members: [holder, recent], waiters: wanted }))).toEqual([
      { kind: "assign", waiter: waiter?.id, member: holder.id },
    ]);
    expect(planPool(view({ members: [{ ...holder, phase: "busy" }, recent], waiters: wanted }))).toEqual([
      { kind: "assign", waiter: waiter?.id, member: recent.id },
    ]);
  });

  it("leaves a slot to others while a prompt waits for its client, and never runs more than the slots", () => {
    const [parked, ready] = [member("parked"), member("ready")];
    expect(kinds({ members: [parked], waiters: waiters("m"), slots: 1 })).toEqual(["start"]);
    expect(kinds({ members: [parked], slots: 1 })).toEqual([]);
    expect(kinds({ members: [parked, ready], waiters: waiters("m"), slots: 1 })).toEqual(["assign"]);
    expect(kinds({ members: [member("busy"), ready], waiters: waiters("m"), slots: 1 })).not.toContain("assign");
  });

  it("starts as many as wait and no process on its way will take, within slots and allowed starts", () => {
    expect(kinds({ members: [member("busy")], waiters: waiters("m", "m", "m") })).toEqual(["start", "start"]);
    expect(
      kinds({ members: [member("busy"), member("starting"), member("preparing")], waiters: waiters("m", "m") }),
    ).toEqual([]);
    expect(kinds({ members: [member("busy"), member("busy")], waiters: waiters("m"), slots: 2 })).toEqual([]);
    expect(kinds({ members: [member("busy"), member("stopping")], waiters: waiters("m"), slots: 2 })).toEqual([
      "start",
    ]);
  });

  it("prefers a session that has the model, and takes any", () => {
    const a = member("ready", { model: "a" });
    const b = member("ready", { model: "b", readyAtMs: 5 });
    expect(planPool(view({ members: [a, b], waiters: waiters("a", "c") }))).toEqual([
      { kind: "assign", waiter: 100, member: a.id },
      { kind: "assign", waiter: 101, member: b.id },
    ]);
  });

  it("gives a process with one model only to prompts for it, and makes room for others", () => {
    const a = member("ready", { model: "a" });
    const fields = { members: [a], waiters: waiters("b"), modelAtStart: true };
    expect(planPool(view({ ...fields, slots: 2 }))).toEqual([{ kind: "start", model: "b" }]);
    expect(planPool(view({ ...fields, slots: 1 }))).toMatchObject([{ kind: "stop", member: a.id }]);
  });

  it("lets nobody wait for ever behind prompts for another model", () => {
    const a = member("ready", { model: "a" });
    const fields = { members: [a], waiters: waiters("b", "a"), modelAtStart: true, slots: 1 };
    expect(planPool(view(fields))).toMatchObject([{ kind: "stop", member: a.id }]);
  });

  it("makes room once for one who waits", () => {
    const others = [member("ready", { model: "a" }), member("ready", { model: "a" })];
    expect(kinds({ members: others, waiters: waiters("b"), modelAtStart: true, slots: 2 })).toEqual(["stop"]);
    const leaving = [member("stopping", { model: "a" }), member("ready", { model: "a" })];
    expect(kinds({ members: leaving, waiters: waiters("b"), modelAtStart: true, slots: 2 })).toEqual(["start"]);
  });

  it("replaces a worn process, the replacement first", () => {
    const worn = member("ready", { turns: 10 });
    expect(kinds({ members: [worn] })).toEqual(["start"]);
    expect(kinds({ members: [worn, member("starting")] })).toEqual([]);
    expect(planPool(view({ members: [worn, member("ready")] }))).toMatchObject([{ kind: "stop", member: worn.id }]);
    const old = member("ready", { startedAtMs: -200_000 });
    expect(planPool(view({ members: [old, member("ready")] }))).toMatchObject([{ kind: "stop", member: old.id }]);
  });

  it("replaces a process that has grown", () => {
    const grown = member("ready", { memoryBytes: 1_000 });
    expect(kinds({ members: [grown] })).toEqual(["start"]);
    expect(planPool(view({ members: [grown, member("ready")] }))).toMatchObject([{ kind: "stop", member: grown.id }]);
    expect(kinds({ members: [grown], waiters: waiters("m") })).toEqual(["assign"]);
  });

  it("replaces one at twice its limits though prompts wait", () => {
    const spent = member("ready", { turns: 20 });
    expect(kinds({ members: [spent], waiters: waiters("m"), slots: 1 })).toEqual(["stop", "start"]);
    expect(kinds({ members: [spent], waiters: waiters("m"), slots: 1, startsAllowed: 0 })).toEqual(["assign"]);
    const other = member("ready");
    expect(planPool(view({ members: [spent, other], waiters: waiters("m", "m"), slots: 2 }))).toMatchObject([
      { kind: "assign", member: other.id },
      { kind: "stop", member: spent.id },
      { kind: "start" },
    ]);
  });

  it("replaces no process that runs a prompt", () => {
    expect(kinds({ members: [member("busy", { turns: 10 })] })).toEqual([]);
  });

  it("ends processes beyond the minimum that are idle for long, the longest first", () => {
    const long = member("ready", { readyAtMs: -9_000 });
    const longer = member("ready", { readyAtMs: -10_000 });
    const recent = member("ready", { readyAtMs: 900 });
    expect(
      planPool(view({ members: [long, longer, recent] })).map((action) => "member" in action && action.member),
    ).toEqual([longer.id, long.id]);
    expect(kinds({ members: [long] })).toEqual([]);
  });
});
