// Large values come back whole: what is in a store has no size of its own, only the limits of those who write.
import { create as message } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { ConditionSchema } from "#gen/drawbridge/v1/account";
import { ChannelSpecSchema } from "#gen/drawbridge/v1/channel";
import { admission, allUsage, apiKey, givenUser, minuteMs, outcome, settlement, spec, t0, worker } from "./given.ts";
import { conformance } from "./implementations.ts";

/** 256 KiB and more, of characters of one to four bytes. */
const long = "text é 漢 🏰\n".repeat(20_000);
const manyNames = Array.from({ length: 5_000 }, (_, index) => `model ${index} ${"x".repeat(50)}`);
const manyModels = Object.fromEntries(manyNames.map((name) => [name, name]));

conformance("large values", (create) => {
  test("workers with many models and long words", async () => {
    await using store = await create();
    const { state } = store;
    const pools = [{ accountId: "a", models: manyNames, slots: 1, availableSlots: 1 }];
    await state.workers.put(worker({ healthReason: long, pools }), minuteMs, t0);
    expect(await state.workers.beat(worker({ healthReason: `${long}.`, pools }), minuteMs, t0)).toBe(true);
    expect((await state.workers.list(t0)).workers).toMatchObject([{ healthReason: `${long}.`, pools }]);
    expect(await state.workers.remove("w", "w-1", t0)).toBe(true);
  });

  test("accounts, channels and events", async () => {
    await using store = await create();
    const { state } = store;
    const conditions = [message(ConditionSchema, { type: "Ready", message: long })];
    await state.accounts.create(spec({ models: manyModels }), "api", t0);
    await state.accounts.setConditions("a", conditions, t0);
    expect(await state.accounts.get("a")).toMatchObject({
      spec: { models: manyModels },
      conditions: [{ message: long }],
    });
    await state.channels.create(message(ChannelSpecSchema, { id: "c", models: manyModels }), "api", t0);
    expect((await state.channels.get("c"))?.spec?.models).toEqual(manyModels);
    await state.events.append({ type: "E", accountId: "", workerId: "", message: long });
    expect((await state.events.list(0, 10)).events).toMatchObject([{ message: long }]);
  });

  test("what a request leaves behind", async () => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    await state.access.createKey(apiKey({ id: "large", models: [...manyNames, "m"], name: long }), t0);
    expect(await state.ledger.admit(admission({ keyId: "large", model: "m" }))).toMatchObject({ admitted: true });
    const requestId = long.slice(0, 4_000);
    await state.ledger.admit(admission({ keyId: "large", requestId, model: manyNames[4_999] ?? "" }));
    await state.ledger.settle(settlement({ requestId }));
    expect(await allUsage(state)).toMatchObject([{ requestId, keyId: "large", model: manyNames[4_999] }]);
    await state.outcomes.record(outcome({ requestId, conversation: long }), minuteMs, t0);
    expect(await state.outcomes.finalOf(requestId, t0)).toMatchObject({ conversation: long });
  });
});
