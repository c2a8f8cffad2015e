import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import { End } from "#gen/drawbridge/v1/usage";
import { hostileIds, outcome, t0, usageOf } from "./given.ts";
import { conformance } from "./implementations.ts";

const ttlMs = 3_600_000;

conformance("outcomes", (create) => {
  test("are found by attempt, and by request if they had content", async () => {
    await using store = await create();
    const { state } = store;
    const failed = outcome({
      attemptId: "1",
      content: false,
      end: End.FAILED_BEFORE_CONTENT,
      reason: ErrorReason.AGENT_CRASHED,
    });
    const finished = outcome({
      attemptId: "2",
      usage: usageOf(1, 2 ** 40),
      millicredits: 0n,
      endedAt: timestampFromMs(t0),
    });
    await state.outcomes.record(failed, ttlMs, t0);
    expect(await state.outcomes.finalOf("req", t0)).toBeUndefined();
    await state.outcomes.record(finished, ttlMs, t0);
    expect(await state.outcomes.byAttempt({ requestId: "req", attemptId: "1" }, t0)).toEqual(failed);
    expect(await state.outcomes.byAttempt({ requestId: "req", attemptId: "2" }, t0)).toEqual(finished);
    expect(await state.outcomes.finalOf("req", t0)).toEqual(finished);
    expect(await state.outcomes.byAttempt({ requestId: "req", attemptId: "3" }, t0)).toBeUndefined();
    expect(await state.outcomes.finalOf("other", t0)).toBeUndefined();
  });

  test("the first one of an attempt stays", async () => {
    await using store = await create();
    const { state } = store;
    const first = outcome({ content: false, end: End.FAILED_BEFORE_CONTENT });
    await state.outcomes.record(first, ttlMs, t0);
    await state.outcomes.record(outcome({ content: true }), ttlMs, t0 + 1);
    expect(await state.outcomes.byAttempt({ requestId: "req", attemptId: "att" }, t0 + 1)).toEqual(first);
    expect(await state.outcomes.finalOf("req", t0 + 1)).toBeUndefined();
  });

  test("the first one with content of a request stays", async () => {
    await using store = await create();
    const { state } = store;
    await state.outcomes.record(outcome({ attemptId: "z", millicredits: 1n }), ttlMs, t0);
    await state.outcomes.record(outcome({ attemptId: "a", millicredits: 2n }), ttlMs, t0 + 1);
    expect(await state.outcomes.finalOf("req", t0 + 1)).toMatchObject({ attemptId: "z" });
    expect(await state.outcomes.byAttempt({ requestId: "req", attemptId: "a" }, t0 + 1)).toMatchObject({
      millicredits: 2n,
    });
  });

  test("of many recordings of one attempt, one stays for both questions", async () => {
    await using store = await create();
    const { state } = store;
    const all = Array.from({ length: 30 }, (_, index) => outcome({ millicredits: BigInt(index) }));
    await Promise.all(all.map((each) => state.outcomes.record(each, ttlMs, t0)));
    const kept = await state.outcomes.byAttempt({ requestId: "req", attemptId: "att" }, t0);
    expect(all).toContainEqual(kept);
    expect(await state.outcomes.finalOf("req", t0)).toEqual(kept);
  });

  test("are forgotten when their time is over", async () => {
    await using store = await create();
    const { state } = store;
    await state.outcomes.record(outcome(), ttlMs, t0);
    expect(await state.outcomes.byAttempt({ requestId: "req", attemptId: "att" }, t0 + ttlMs - 1)).toBeDefined();
    expect(await state.outcomes.finalOf("req", t0 + ttlMs - 1)).toBeDefined();
    expect(await state.outcomes.byAttempt({ requestId: "req", attemptId: "att" }, t0 + ttlMs)).toBeUndefined();
    expect(await state.outcomes.finalOf("req", t0 + ttlMs)).toBeUndefined();
  });

  test("hostile ids are ids like others", async () => {
    await using store = await create();
    const { state } = store;
    for (const id of hostileIds) {
      await state.outcomes.record(outcome({ attemptId: id, requestId: `r ${id}`, accountId: id }), ttlMs, t0);
    }
    for (const id of hostileIds) {
      expect(await state.outcomes.byAttempt({ requestId: `r ${id}`, attemptId: id }, t0)).toMatchObject({
        attemptId: id,
        accountId: id,
      });
      expect(await state.outcomes.finalOf(`r ${id}`, t0)).toMatchObject({ attemptId: id });
    }
  });
});
