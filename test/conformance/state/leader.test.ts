import { expect, test } from "vitest";
import { until } from "../../support/until.ts";
import { t0 } from "./given.ts";
import { conformance } from "./implementations.ts";

const ttlMs = 60_000;

conformance("leader lock", (create) => {
  test("one leads; others see who, and for how long yet", async () => {
    await using store = await create();
    const { leader } = store.state;
    expect(await leader.current(t0)).toBeUndefined();
    const term = { owner: "one {x}", epoch: t0 };
    expect(await leader.acquire("one {x}", ttlMs, t0)).toEqual({ leads: true, ...term, leftMs: ttlMs });
    expect(await leader.acquire("two", ttlMs, t0 + 40_000)).toEqual({ leads: false, ...term, leftMs: 20_000 });
    expect(await leader.acquire("two", ttlMs, t0 + ttlMs - 1)).toEqual({ leads: false, ...term, leftMs: 1 });
    expect(await leader.current(t0 + ttlMs - 1)).toEqual({ ...term, leftMs: 1 });
  });

  test("renewing keeps the epoch and moves the end", async () => {
    await using store = await create();
    const { leader } = store.state;
    await leader.acquire("one", ttlMs, t0);
    const term = { owner: "one", epoch: t0 };
    expect(await leader.acquire("one", ttlMs, t0 + 40_000)).toEqual({ leads: true, ...term, leftMs: ttlMs });
    expect(await leader.current(t0 + 99_999)).toEqual({ ...term, leftMs: 1 });
    expect(await leader.current(t0 + 100_000)).toBeUndefined();
  });

  test("the epoch grows whenever the lock changes hands, and never falls", async () => {
    await using store = await create();
    const { leader } = store.state;
    await leader.acquire("one", ttlMs, t0);
    const second = await leader.acquire("two", ttlMs, t0 + ttlMs);
    expect(second).toMatchObject({ leads: true, owner: "two" });
    expect(second.epoch).toBeGreaterThan(t0);
    await leader.release("one");
    expect(await leader.current(t0 + ttlMs)).toMatchObject({ owner: "two", epoch: second.epoch });
    await leader.release("two");
    await leader.release("two");
    expect(await leader.current(t0 + ttlMs)).toBeUndefined();
    // By a clock that is behind, too.
    const third = await leader.acquire("one", ttlMs, t0);
    expect(third).toMatchObject({ leads: true, owner: "one" });
    expect(third.epoch).toBeGreaterThan(second.epoch);
  });

  test("an owner that takes its ended lock again begins a new term", async () => {
    await using store = await create();
    const { leader } = store.state;
    const first = await leader.acquire("one", ttlMs, t0);
    const second = await leader.acquire("one", ttlMs, t0 + ttlMs);
    expect(second.epoch).toBeGreaterThan(first.epoch);
  });

  test("an epoch is above those of another store that was begun before, as one that was lost or emptied", async () => {
    await using lost = await create();
    await lost.state.leader.acquire("one", ttlMs, t0);
    const { epoch } = await lost.state.leader.acquire("two", ttlMs, t0 + ttlMs);
    await using store = await create();
    expect((await store.state.leader.acquire("three", ttlMs, t0 + ttlMs + 1)).epoch).toBeGreaterThan(epoch);
  });

  test("of many that want to lead, one does", async () => {
    await using store = await create();
    const { leader } = store.state;
    const results = await Promise.all(Array.from({ length: 50 }, (_, index) => leader.acquire(`${index}`, ttlMs, t0)));
    const leading = results.filter(({ leads }) => leads);
    expect(leading).toHaveLength(1);
    for (const each of results) expect(each).toMatchObject({ owner: leading[0]?.owner, epoch: t0 });
  });

  test("those who wait are told when it is given up, in this process and in others", async () => {
    await using store = await create();
    const other = await store.open();
    const told = { here: 0, elsewhere: 0 };
    using _here = store.state.leader.onChange(() => void told.here++);
    using _elsewhere = other.leader.onChange(() => void told.elsewhere++);
    await until("both have been told of a lock that was given up", async () => {
      await store.state.leader.acquire("one", ttlMs, t0);
      await store.state.leader.release("one");
      return told.here > 0 && told.elsewhere > 0;
    });
  });
});
