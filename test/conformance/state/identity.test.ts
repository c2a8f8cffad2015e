import { expect, test } from "vitest";
import { conformance } from "./implementations.ts";

conformance("identity", (create) => {
  test("a store keeps the first name that it was given, for every handle", async () => {
    await using store = await create();
    const other = await store.open();
    expect(await store.state.identify("first {x}")).toBe("first {x}");
    expect(await store.state.identify("second")).toBe("first {x}");
    expect(await other.identify("third")).toBe("first {x}");
  });

  test("of many names at the same time, one stays", async () => {
    await using store = await create();
    const other = await store.open();
    const proposals = Array.from({ length: 20 }, (_, index) => `${index}`);
    const names = await Promise.all(proposals.map((name, index) => (index % 2 ? store.state : other).identify(name)));
    expect(new Set(names).size).toBe(1);
    expect(proposals).toContain(names[0]);
  });

  test("another store has another one", async () => {
    await using one = await create();
    await using other = await create();
    await one.state.identify("one");
    expect(await other.state.identify("other")).toBe("other");
  });
});
