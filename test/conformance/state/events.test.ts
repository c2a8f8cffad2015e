import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { t0 } from "./given.ts";
import { conformance } from "./implementations.ts";

const kept = 10_000;

conformance("events", (create) => {
  test("get revisions that grow by one, and are listed after one", async () => {
    await using store = await create();
    const { state } = store;
    expect(await state.events.list(0, 10)).toEqual({ events: [], revision: 0 });
    for (const type of ["A", "B", "C"]) expect(await state.events.append(event(type))).toBe("_ABC".indexOf(type));
    const all = await state.events.list(0, 10);
    expect(all.revision).toBe(3);
    expect(all.events).toMatchObject([
      { type: "A", revision: 1n, at: timestampFromMs(t0), message: `"quoted"\nü` },
      { type: "B", revision: 2n },
      { type: "C", revision: 3n },
    ]);
    const later = await state.events.list(1, 1);
    expect(later.revision).toBe(3);
    expect(later.events.map(({ type }) => type)).toEqual(["B"]);
    expect(await state.events.list(3, 10)).toEqual({ events: [], revision: 3 });
    expect(await state.events.list(99, 10)).toEqual({ events: [], revision: 3 });
  });

  test("that come at the same time have revisions of their own, without gaps", async () => {
    await using store = await create();
    const { state } = store;
    const revisions = await Promise.all(
      Array.from({ length: 200 }, (_, index) => state.events.append(event(`${index}`))),
    );
    expect(revisions.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 200 }, (_, index) => index + 1));
    const { events } = await state.events.list(0, 1_000);
    for (const [index, revision] of revisions.entries()) expect(events[revision - 1]?.type).toBe(`${index}`);
  });

  test("the newest 10,000 are kept; who was away longer sees the gap", async () => {
    await using store = await create();
    const { state } = store;
    const extra = 25;
    for (let sent = 0; sent < kept + extra; sent += 25) {
      await Promise.all(Array.from({ length: 25 }, () => state.events.append(event("E"))));
    }
    const first = await state.events.list(10, 2);
    expect(first).toMatchObject({ revision: kept + extra, events: [{ revision: BigInt(extra + 1) }, {}] });
    const all = await state.events.list(0, kept * 2);
    expect(all.events).toHaveLength(kept);
    expect(all.events.at(-1)?.revision).toBe(BigInt(kept + extra));
  });
});

function event(type: string) {
  return { at: timestampFromMs(t0), type, accountId: "a", workerId: "", message: `"quoted"\nü` };
}
