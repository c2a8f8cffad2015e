import { expect, test } from "vitest";
import { t0 } from "./given.ts";
import { conformance } from "./implementations.ts";

const ttlMs = 60_000;

conformance("leader lock", (create) => {
  test("one leads; others see who", async () => {
    await using store = await create();
    const { leader } = store.state;
    expect(await leader.current(t0)).toBeUndefined();
    expect(await leader.acquire("one {x}", ttlMs, t0)).toEqual({ leads: true, owner: "one {x}", epoch: 1 });
    expect(await leader.acquire("two", ttlMs, t0 + ttlMs - 1)).toEqual({ leads: false, owner: "one {x}", epoch: 1 });
    expect(await leader.current(t0 + ttlMs - 1)).toEqual({ owner: "one {x}", epoch: 1 });
  });

  test("renewing keeps the epoch and moves the end", async () => {
    await using store = await create();
    const { leader } = store.state;
    await leader.acquire("one", ttlMs, t0);
    expect(await leader.acquire("one", ttlMs, t0 + 40_000)).toEqual({ leads: true, owner: "one", epoch: 1 });
    expect(await leader.current(t0 + 99_999)).toEqual({ owner: "one", epoch: 1 });
    expect(await leader.current(t0 + 100_000)).toBeUndefined();
  });

  test("the epoch grows whenever the lock changes hands, and never falls", async () => {
    await using store = await create();
    const { leader } = store.state;
    await leader.acquire("one", ttlMs, t0);
    expect(await leader.acquire("two", ttlMs, t0 + ttlMs)).toEqual({ leads: true, owner: "two", epoch: 2 });
    await leader.release("one");
    expect(await leader.current(t0 + ttlMs)).toEqual({ owner: "two", epoch: 2 });
    await leader.release("two");
    await leader.release("two");
    expect(await leader.current(t0 + ttlMs)).toBeUndefined();
    expect(await leader.acquire("one", ttlMs, t0 + ttlMs)).toEqual({ leads: true, owner: "one", epoch: 3 });
  });

  test("an owner that takes its ended lock again begins a new term", async () => {
    await using store = await create();
    const { leader } = store.state;
    await leader.acquire("one", ttlMs, t0);
    expect(await leader.acquire("one", ttlMs, t0 + ttlMs)).toEqual({ leads: true, owner: "one", epoch: 2 });
  });

  test("of many that want to lead, one does", async () => {
    await using store = await create();
    const { leader } = store.state;
    const results = await Promise.all(Array.from({ length: 50 }, (_, index) => leader.acquire(`${index}`, ttlMs, t0)));
    const leading = results.filter(({ leads }) => leads);
    expect(leading).toHaveLength(1);
    for (const each of results) expect(each).toMatchObject({ owner: leading[0]?.owner, epoch: 1 });
  });
});
