import type { Client } from "@connectrpc/connect";
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { LeaseSchema, type SchedulerService } from "#gen/drawbridge/v1/scheduler_service";
import { joinSchedulers } from "../../../services/client/schedulers.ts";
import { DrawbridgeError, type Reason } from "../../../services/kit/errors.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

function scheduler(name: string, calls: string[]) {
  const state: { failing: Reason | undefined } = { failing: undefined };
  const answer = async (method: string, value: object) => {
    calls.push(`${name} ${method}`);
    if (state.failing) throw new DrawbridgeError(state.failing, "No.");
    return value;
  };
  const client = {
    acquire: ({ attemptId }: { attemptId: string }) =>
      answer("acquire", { lease: create(LeaseSchema, { attemptId, accountId: name }) }),
    report: () => answer("report", { settled: true }),
    release: () => answer("release", { released: true }),
    explain: () => answer("explain", { candidates: [], decisions: [{ accountId: name }] }),
  } as unknown as Client<typeof SchedulerService>;
  return { client, state };
}

function given() {
  const calls: string[] = [];
  const [a, b] = [scheduler("a", calls), scheduler("b", calls)];
  const clock = new VirtualClock();
  return { a, b, calls, clock, joined: joinSchedulers([a.client, b.client], clock) };
}

const acquire = async ({ joined }: ReturnType<typeof given>, attemptId = "1") =>
  (await joined.acquire({ attemptId })).lease?.accountId;

test("calls take turns", async () => {
  const all = given();
  const givers = [await acquire(all), await acquire(all), await acquire(all), await acquire(all)];
  expect(givers.filter((giver) => giver === "a")).toHaveLength(2);
});

test("one that is away is left out, and asked again after a while", async () => {
  const all = given();
  all.a.state.failing = "STATE_UNAVAILABLE";
  for (let call = 0; call < 6; call += 1) expect(await acquire(all)).toBe("b");
  expect(all.calls.filter((call) => call.startsWith("a"))).toHaveLength(1);
  all.a.state.failing = undefined;
  await all.clock.advance(1_000);
  expect(new Set([await acquire(all), await acquire(all)])).toEqual(new Set(["a", "b"]));
});

test("where all are away the call fails; a refusal is an answer", async () => {
  const all = given();
  all.a.state.failing = all.b.state.failing = "STATE_UNAVAILABLE";
  await expect(acquire(all)).rejects.toMatchObject({ reason: "STATE_UNAVAILABLE" });
  all.a.state.failing = all.b.state.failing = "NO_CAPACITY";
  all.calls.length = 0;
  await expect(acquire(all)).rejects.toMatchObject({ reason: "NO_CAPACITY" });
  expect(all.calls).toHaveLength(1);
});

test("a lease is reported to the one that gave it, or where that is away, to another", async () => {
  const all = given();
  const giver = await acquire(all, "x");
  const report = () => all.joined.report({ outcome: { attemptId: "x" } });
  for (let call = 0; call < 4; call += 1) await report();
  expect(all.calls.slice(1)).toEqual(Array.from({ length: 4 }, () => `${giver} report`));
  all.a.state.failing = "STATE_UNAVAILABLE";
  await report();
  expect(all.calls.at(-1)).toBe("b report");
});

test("a past decision is told by whoever made it", async () => {
  const all = given();
  all.a.state.failing = "NOT_FOUND";
  for (let call = 0; call < 2; call += 1) {
    expect((await all.joined.explain({ requestId: "r" })).decisions).toMatchObject([{ accountId: "b" }]);
  }
  all.b.state.failing = "NOT_FOUND";
  await expect(all.joined.explain({ requestId: "r" })).rejects.toMatchObject({ reason: "NOT_FOUND" });
});

test("an attempt whose lease has not arrived is given up at the one that was asked", async () => {
  const all = given();
  all.a.state.failing = all.b.state.failing = "CANCELLED";
  await expect(acquire(all, "x")).rejects.toMatchObject({ reason: "CANCELLED" });
  all.a.state.failing = all.b.state.failing = undefined;
  await all.joined.release({ attemptId: "x" });
  const [asked = "", released = ""] = all.calls;
  expect(all.calls).toHaveLength(2);
  expect(released).toBe(asked.replace("acquire", "release"));
});
