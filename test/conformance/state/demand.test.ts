import { expect, test } from "vitest";
import { expectReason, hostileIds, minuteMs, t0 } from "./given.ts";
import { conformance } from "./implementations.ts";

conformance("demand", (create) => {
  test("is what the schedulers say, in sum, by model", async () => {
    await using store = await create();
    const { demand } = store.state;
    expect(await demand.list(t0)).toEqual([]);
    await demand.report("s1", "m", 2, minuteMs, t0);
    await demand.report("s2", "m", 3, minuteMs, t0);
    await demand.report("s1", "a", 1, minuteMs, t0);
    expect(await demand.list(t0)).toEqual([
      { model: "a", waiting: 1 },
      { model: "m", waiting: 5 },
    ]);
  });

  test("a scheduler's word takes the place of its last one, and 0 takes it back", async () => {
    await using store = await create();
    const { demand } = store.state;
    await demand.report("s1", "m", 5, minuteMs, t0);
    await demand.report("s2", "m", 1, minuteMs, t0);
    await demand.report("s1", "m", 2, minuteMs, t0);
    await demand.report("s1", "m", 2, minuteMs, t0);
    expect(await demand.list(t0)).toEqual([{ model: "m", waiting: 3 }]);
    await demand.report("s1", "m", 0, minuteMs, t0);
    await demand.report("s1", "m", 0, minuteMs, t0);
    await demand.report("s1", "never", 0, minuteMs, t0);
    expect(await demand.list(t0)).toEqual([{ model: "m", waiting: 1 }]);
    await demand.report("s2", "m", 0, minuteMs, t0);
    expect(await demand.list(t0)).toEqual([]);
  });

  test("of a scheduler that says nothing more ends with its time, and only that", async () => {
    await using store = await create();
    const { demand } = store.state;
    await demand.report("gone", "m", 4, 10_000, t0);
    await demand.report("here", "m", 1, minuteMs, t0);
    expect(await demand.list(t0 + 9_999)).toEqual([{ model: "m", waiting: 5 }]);
    expect(await demand.list(t0 + 10_000)).toEqual([{ model: "m", waiting: 1 }]);
    await demand.report("here", "m", 1, minuteMs, t0 + 20_000);
    expect(await demand.list(t0 + 20_000)).toEqual([{ model: "m", waiting: 1 }]);
    // A shorter time of one does not shorten another's.
    await demand.report("short", "m", 1, 1_000, t0 + 20_000);
    expect(await demand.list(t0 + 30_000)).toEqual([{ model: "m", waiting: 1 }]);
    expect(await demand.list(t0 + 20_000 + minuteMs)).toEqual([]);
  });

  test("takes any names, and refuses empty ones and amounts that are none", async () => {
    await using store = await create();
    const { demand } = store.state;
    for (const id of hostileIds) await demand.report(id, id, 1, minuteMs, t0);
    const names = (await demand.list(t0)).map(({ model }) => model);
    expect(names.toSorted()).toEqual(hostileIds.toSorted());
    await expectReason("INVALID_ARGUMENT", demand.report("", "m", 1, minuteMs, t0));
    await expectReason("INVALID_ARGUMENT", demand.report("s", "", 1, minuteMs, t0));
    await expectReason("INVALID_ARGUMENT", demand.report("s", "m", -1, minuteMs, t0));
    await expectReason("INVALID_ARGUMENT", demand.report("s", "m", 0.5, minuteMs, t0));
  });
});
