import { create as message, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { ChannelSpecSchema } from "#gen/drawbridge/v1/channel";
import { until } from "../../support/until.ts";
import { expectReason, hostileIds, t0 } from "./given.ts";
import { conformance } from "./implementations.ts";

conformance("channels", (create) => {
  test("a created channel is there as it was given", async () => {
    await using store = await create();
    const { channels } = store.state;
    expect(await channels.get("c")).toBeUndefined();
    expect(await channels.list()).toEqual([]);
    const created = await channels.create(spec(), "file", t0);
    expect(created).toMatchObject({ id: "c", kind: "openai", priority: 3, weight: 2, models: ["a", "b"] });
    expect(created).toMatchObject({ managedBy: "file", disabled: false, spec: spec() });
    expect(created.revision).toBeGreaterThan(0n);
    expect(await channels.get("c")).toEqual(created);
    expect(await channels.list()).toEqual([created]);
    await expectReason("ALREADY_EXISTS", channels.create(spec({ priority: 9 }), "api", t0));
    expect(await channels.get("c")).toEqual(created);
  });

  test("an update replaces what it is, and nothing where nothing is new", async () => {
    await using store = await create();
    const { channels } = store.state;
    await expectReason("NOT_FOUND", channels.update(spec(), "api", 0));
    const first = await channels.create(spec(), "file", t0);
    expect(await channels.update(spec(), "file", 0)).toEqual(first);
    const second = await channels.update(spec({ models: { z: "y" } }), "api", Number(first.revision));
    expect(second).toMatchObject({ models: ["z"], managedBy: "api", createdAt: first.createdAt });
    expect(second.revision).toBeGreaterThan(first.revision);
    await expectReason("REVISION_CONFLICT", channels.update(spec(), "api", Number(first.revision)));
    expect(await channels.get("c")).toEqual(second);
  });

  test("switching off outlives an update, and each switch is a new revision", async () => {
    await using store = await create();
    const { channels } = store.state;
    await expectReason("NOT_FOUND", channels.setDisabled("c", true));
    const first = await channels.create(spec(), "file", t0);
    const off = await channels.setDisabled("c", true);
    expect(off).toMatchObject({ disabled: true, spec: spec() });
    expect((await channels.update(spec({ weight: 7 }), "file", 0)).disabled).toBe(true);
    const on = await channels.setDisabled("c", false);
    const again = await channels.setDisabled("c", false);
    expect([on.disabled, again.disabled]).toEqual([false, false]);
    expect(off.revision).toBeGreaterThan(first.revision);
    expect(again.revision).toBeGreaterThan(on.revision);
  });

  test("a removed channel is gone, and may be made again", async () => {
    await using store = await create();
    const { channels } = store.state;
    await expectReason("NOT_FOUND", channels.remove("c"));
    await channels.create(spec(), "api", t0);
    await channels.remove("c");
    expect(await channels.list()).toEqual([]);
    expect(await channels.create(spec(), "api", t0)).toMatchObject({ id: "c" });
  });

  test("many who change one at the same time all change it", async () => {
    await using store = await create();
    const { channels } = store.state;
    const { revision } = await channels.create(spec(), "api", t0);
    await Promise.all(Array.from({ length: 20 }, (_, index) => channels.setDisabled("c", index % 2 === 0)));
    expect((await channels.get("c"))?.revision).toBe(revision + 20n);
  });

  test("are listed by id, hostile ones too", async () => {
    await using store = await create();
    const { channels } = store.state;
    for (const id of hostileIds) await channels.create(spec({ id }), "api", t0);
    const sorted = hostileIds.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    expect((await channels.list()).map(({ id }) => id)).toEqual(sorted);
    for (const id of hostileIds) expect(await channels.get(id)).toMatchObject({ id });
    await expectReason("INVALID_ARGUMENT", channels.create(spec({ id: "" }), "api", t0));
  });

  test("a change is told to other handles", async () => {
    await using store = await create();
    const other = await store.open();
    let told = 0;
    using _subscription = other.channels.onChange(() => (told += 1));
    await until("the other handle is told", async () => {
      if (told > 0) return true;
      await store.state.channels.create(spec(), "api", t0).catch(() => store.state.channels.setDisabled("c", false));
      return false;
    });
  });
});

function spec(fields: MessageInitShape<typeof ChannelSpecSchema> = {}) {
  return message(ChannelSpecSchema, {
    id: "c",
    kind: "openai",
    baseUrl: "https://api.example.com/v1",
    apiKeys: [{ source: { case: "fromEnv", value: "KEY" } }],
    models: { b: "upstream-b", a: "upstream-a" },
    priority: 3,
    weight: 2,
    ...fields,
  });
}
