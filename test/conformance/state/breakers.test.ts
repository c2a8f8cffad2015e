import { create as message } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { BreakerSchema, BreakerState } from "#gen/drawbridge/v1/account";
import { hostileIds, t0 } from "./given.ts";
import { conformance } from "./implementations.ts";

conformance("breakers", (create) => {
  test("there is none until one is written", async () => {
    await using store = await create();
    const { state } = store;
    expect(await state.breakers.get("a")).toBeUndefined();
    expect(await state.breakers.list()).toEqual([]);
  });

  test("a write names the revision that it replaces, and gives the new one", async () => {
    await using store = await create();
    const { state } = store;
    const first = await state.breakers.compareAndSet(breaker("a"));
    expect(first).toMatchObject({ accountId: "a", state: BreakerState.OPEN, until: timestampFromMs(t0), openings: 3 });
    expect(first?.revision).toBeGreaterThan(0n);
    expect(await state.breakers.get("a")).toEqual(first);
    const next = first && { ...first, state: BreakerState.HALF_OPEN, probesLeft: 2 };
    const second = next && (await state.breakers.compareAndSet(next));
    expect(second?.revision).not.toBe(first?.revision);
    expect(await state.breakers.get("a")).toEqual(second);
  });

  test("a stale revision writes nothing", async () => {
    await using store = await create();
    const { state } = store;
    const first = await state.breakers.compareAndSet(breaker("a"));
    expect(await state.breakers.compareAndSet(breaker("a"))).toBeUndefined();
    expect(await state.breakers.compareAndSet(breaker("a", (first?.revision ?? 0n) + 7n))).toBeUndefined();
    expect(await state.breakers.compareAndSet(breaker("b", 7n))).toBeUndefined();
    expect(await state.breakers.list()).toEqual([first]);
  });

  test("of many writes of one revision, one is taken", async () => {
    await using store = await create();
    const { state } = store;
    const first = await state.breakers.compareAndSet(breaker("a"));
    const calls = Array.from({ length: 50 }, (_, index) =>
      state.breakers.compareAndSet({ ...breaker("a", first?.revision), probesLeft: index }),
    );
    const written = (await Promise.all(calls)).filter((each) => each !== undefined);
    expect(written).toHaveLength(1);
    expect(await state.breakers.get("a")).toEqual(written[0]);
  });

  test("are listed by id, hostile ones too", async () => {
    await using store = await create();
    const { state } = store;
    for (const id of hostileIds) await state.breakers.compareAndSet(breaker(id));
    const sorted = hostileIds.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    expect((await state.breakers.list()).map(({ accountId }) => accountId)).toEqual(sorted);
    for (const id of hostileIds) expect(await state.breakers.get(id)).toMatchObject({ accountId: id });
  });
});

function breaker(accountId: string, revision = 0n) {
  return message(BreakerSchema, {
    accountId,
    revision,
    state: BreakerState.OPEN,
    reason: `it "failed"`,
    until: timestampFromMs(t0),
    openings: 3,
  });
}
