import { create as message } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { ConditionSchema } from "#gen/drawbridge/v1/account";
import { creditBooks, expectReason, hostileIds, lease, outcome, spec, t0 } from "./given.ts";
import { conformance } from "./implementations.ts";

const max = Number.MAX_SAFE_INTEGER;

conformance("accounts", (create) => {
  test("creating one grants its credits", async () => {
    await using store = await create();
    const { state } = store;
    const created = await state.accounts.create(spec(), "file", t0);
    expect(created).toMatchObject({ spec: spec(), generation: 1n, managedBy: "file", createdAt: timestampFromMs(t0) });
    expect(created.revision).toBeGreaterThan(0n);
    expect(await state.accounts.get("a")).toEqual(created);
    expect(await creditBooks(state)).toEqual({ granted: 10_000, available: 10_000, held: 0, spent: 0 });
  });

  test("there is no second one of an id", async () => {
    await using store = await create();
    const { state } = store;
    await state.accounts.create(spec(), "api", t0);
    await expectReason("ALREADY_EXISTS", state.accounts.create(spec({ agent: "other" }), "file", t0));
    expect(await state.accounts.get("a")).toMatchObject({ spec: { agent: "demo" }, managedBy: "api" });
    expect(await creditBooks(state)).toMatchObject({ granted: 10_000 });
  });

  test("of many that create one at the same time, one does", async () => {
    await using store = await create();
    const { state } = store;
    const calls = Array.from({ length: 20 }, () => state.accounts.create(spec(), "api", t0));
    const results = await Promise.allSettled(calls);
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    expect(await creditBooks(state)).toMatchObject({ granted: 10_000 });
  });

  test("updating replaces the specification, and generation and revision grow", async () => {
    await using store = await create();
    const { state } = store;
    const created = await state.accounts.create(spec(), "api", t0);
    const updated = await state.accounts.update(spec({ slots: 9 }), Number(created.revision), t0 + 1);
    expect(updated).toMatchObject({ spec: { slots: 9 }, generation: 2n, createdAt: timestampFromMs(t0) });
    expect(updated.revision).toBeGreaterThan(created.revision);
    expect(await state.accounts.get("a")).toEqual(updated);
  });

  test("updating with the same specification changes nothing", async () => {
    await using store = await create();
    const { state } = store;
    const models = { m: "1", n: "2", o: "3" };
    const created = await state.accounts.create(spec({ models }), "api", t0);
    const again = spec({ models: { o: "3", n: "2", m: "1" } });
    expect(await state.accounts.update(again, 0, t0 + 1)).toMatchObject({
      generation: created.generation,
      revision: created.revision,
    });
  });

  test("updating grants nothing", async () => {
    await using store = await create();
    const { state } = store;
    await state.accounts.create(spec(), "api", t0);
    await state.accounts.update(spec({ initialMillicredits: 99_999n }), 0, t0);
    expect(await creditBooks(state)).toMatchObject({ granted: 10_000 });
  });

  test("updating and removing refuse a stale revision, and an unknown account", async () => {
    await using store = await create();
    const { state } = store;
    await expectReason("NOT_FOUND", state.accounts.update(spec(), 0, t0));
    await expectReason("NOT_FOUND", state.accounts.remove("a", 0, t0));
    const created = await state.accounts.create(spec(), "api", t0);
    const updated = await state.accounts.update(spec({ slots: 3 }), 0, t0);
    await expectReason("REVISION_CONFLICT", state.accounts.update(spec(), Number(created.revision), t0));
    await expectReason("REVISION_CONFLICT", state.accounts.remove("a", Number(created.revision), t0));
    await state.accounts.remove("a", Number(updated.revision), t0);
    expect(await state.accounts.get("a")).toBeUndefined();
    expect(await state.accounts.list()).toEqual([]);
  });

  test("of many that update one revision, one does", async () => {
    await using store = await create();
    const { state } = store;
    const { revision } = await state.accounts.create(spec(), "api", t0);
    const calls = Array.from({ length: 20 }, (_, index) =>
      state.accounts.update(spec({ slots: index + 10 }), Number(revision), t0),
    );
    const results = await Promise.allSettled(calls);
    expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    expect(await state.accounts.get("a")).toMatchObject({ generation: 2n });
  });

  test("one that is created again starts with its own credits; the books remember", async () => {
    await using store = await create();
    const { state } = store;
    const first = await state.accounts.create(spec(), "api", t0);
    await state.leases.acquire(lease());
    await state.leases.settle(outcome({ millicredits: 300n }), t0);
    await state.accounts.remove("a", 0, t0);
    const second = await state.accounts.create(spec({ initialMillicredits: 5_000n }), "api", t0);
    expect(second.revision).not.toBe(first.revision);
    expect(second).toMatchObject({ generation: 1n, conditions: [] });
    expect(await creditBooks(state)).toEqual({ granted: 5_300, available: 5_000, held: 0, spent: 300 });
  });

  test("a grant adds credits once for each grant id", async () => {
    await using store = await create();
    const { state } = store;
    await expectReason("NOT_FOUND", state.accounts.grant("a", "g-1", 500, t0));
    await state.accounts.create(spec(), "api", t0);
    expect(await state.accounts.grant("a", "g-1", 500, t0)).toMatchObject({ granted: 10_500n, available: 10_500n });
    expect(await state.accounts.grant("a", "g-1", 700, t0 + 1)).toMatchObject({ granted: 10_500n });
    await Promise.all(Array.from({ length: 20 }, () => state.accounts.grant("a", "g-2", 1, t0)));
    expect(await creditBooks(state)).toEqual({ granted: 10_501, available: 10_501, held: 0, spent: 0 });
  });

  test("available credits can be set, up and down, whatever is held and spent", async () => {
    await using store = await create();
    const { state } = store;
    await expectReason("NOT_FOUND", state.accounts.setAvailable("a", 1, t0));
    await state.accounts.create(spec(), "api", t0);
    await state.leases.acquire(lease({ attemptId: "1" }));
    await state.leases.acquire(lease({ attemptId: "2" }));
    await state.leases.settle(outcome({ attemptId: "1" }), t0);
    expect(await state.accounts.setAvailable("a", 50, t0)).toMatchObject({ available: 50n });
    expect(await creditBooks(state)).toEqual({ granted: 2_050, available: 50, held: 1_000, spent: 1_000 });
    await state.accounts.setAvailable("a", 20_000, t0);
    await state.accounts.setAvailable("a", 20_000, t0);
    expect(await creditBooks(state)).toEqual({ granted: 22_000, available: 20_000, held: 1_000, spent: 1_000 });
  });

  test("amounts may be as large as they get, and no larger", async () => {
    await using store = await create();
    const { state } = store;
    await state.accounts.create(spec({ initialMillicredits: BigInt(max - 5) }), "api", t0);
    await expectReason("INVALID_ARGUMENT", state.accounts.grant("a", "g", 6, t0));
    await state.accounts.grant("a", "g", 5, t0);
    await expectReason("INVALID_ARGUMENT", state.accounts.grant("a", "h", 1, t0));
    await state.leases.acquire(lease({ millicredits: max }));
    expect(await creditBooks(state)).toEqual({ granted: max, available: 0, held: max, spent: 0 });
    await expectReason("INVALID_ARGUMENT", state.accounts.setAvailable("a", 1, t0));
    await state.leases.settle(outcome({ millicredits: BigInt(max - 1) }), t0);
    expect(await creditBooks(state)).toEqual({ granted: max, available: 1, held: 0, spent: max - 1 });
  });

  test("amounts that are none, and empty ids, are refused", async () => {
    await using store = await create();
    const { state } = store;
    await expectReason("INVALID_ARGUMENT", state.accounts.create(spec({ id: "" }), "api", t0));
    await expectReason("INVALID_ARGUMENT", state.accounts.create(spec({ initialMillicredits: -1n }), "api", t0));
    await state.accounts.create(spec(), "api", t0);
    for (const amount of [-1, 0.5, Number.NaN, Infinity, max + 1]) {
      await expectReason("INVALID_ARGUMENT", state.accounts.grant("a", "g", amount, t0));
      await expectReason("INVALID_ARGUMENT", state.accounts.setAvailable("a", amount, t0));
    }
    expect(await creditBooks(state)).toMatchObject({ granted: 10_000 });
  });

  test("conditions are replaced, and change neither generation nor revision", async () => {
    await using store = await create();
    const { state } = store;
    const created = await state.accounts.create(spec(), "api", t0);
    const ready = condition("Ready", `it's "ready"`);
    await state.accounts.setConditions("a", [ready, condition("Degraded", "line\nbreak")], t0);
    await state.accounts.setConditions("a", [ready], t0);
    expect(await state.accounts.get("a")).toEqual({ ...created, conditions: [ready] });
    await state.accounts.update(spec({ slots: 5 }), 0, t0);
    expect((await state.accounts.get("a"))?.conditions).toEqual([ready]);
    await state.accounts.remove("a", 0, t0);
    await state.accounts.setConditions("a", [ready], t0);
    expect(await state.accounts.get("a")).toBeUndefined();
  });

  test("hostile ids are ids like others, in the order of their bytes", async () => {
    await using store = await create();
    const { state } = store;
    for (const [index, id] of hostileIds.entries()) {
      await state.accounts.create(spec({ id, models: { [id]: id }, initialMillicredits: BigInt(index) }), "api", t0);
    }
    const sorted = hostileIds.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    const listed = await state.accounts.list();
    expect(listed.map((each) => each.spec?.id)).toEqual(sorted);
    for (const [index, id] of hostileIds.entries()) {
      expect(await state.accounts.get(id)).toMatchObject({ spec: { models: { [id]: id } } });
      await state.accounts.grant(id, id, 1_000, t0);
      await state.leases.acquire(lease({ accountId: id, attemptId: id, requestId: id, workerId: id, model: id }));
      expect(await state.leases.open(id)).toMatchObject([{ attemptId: id, workerId: id, model: id, requestId: id }]);
      await state.leases.settle(outcome({ accountId: id, attemptId: id, millicredits: 1n }), t0);
      expect(await creditBooks(state, id)).toEqual({
        granted: 1_000 + index,
        available: 999 + index,
        held: 0,
        spent: 1,
      });
    }
  });
});

function condition(type: string, text: string) {
  return message(ConditionSchema, {
    type,
    status: true,
    reason: "Because",
    message: text,
    changedAt: timestampFromMs(t0),
  });
}
