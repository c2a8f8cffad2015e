import { describe, expect, it } from "vitest";
import { create } from "@bufbuild/protobuf";
import { FinishedSchema, type PromptEvent, StartedSchema } from "#gen/drawbridge/v1/prompt";
import { DrawbridgeError } from "../../../services/kit/errors.ts";
import { createBatcher } from "../../../services/worker/turn/batcher.ts";

const started = { case: "started" as const, value: create(StartedSchema) };
const finished = { case: "finished" as const, value: create(FinishedSchema) };

function shape(events: PromptEvent[] | undefined): unknown[] | undefined {
  return events?.map(({ event }) =>
    event.case === "text" || event.case === "reasoning" ? event.value.text : event.case,
  );
}

function createOne(charsMax = 100) {
  const pressure: boolean[] = [];
  return { pressure, batcher: createBatcher({ charsMax, onPressure: (high) => pressure.push(high) }) };
}

describe("the batcher", () => {
  it("hands an event to whoever waits", async () => {
    const { batcher } = createOne();
    const next = batcher.take();
    batcher.add(started);
    expect(shape(await next)).toEqual(["started"]);
  });

  it("merges adjacent deltas of one kind while nobody takes", async () => {
    const { batcher } = createOne();
    batcher.add(started);
    for (const text of ["a", "b", "c"]) batcher.delta("text", text);
    batcher.delta("reasoning", "d");
    batcher.delta("text", "e");
    batcher.add(finished);
    batcher.end();
    expect(shape(await batcher.take())).toEqual(["started", "abc", "d", "e", "finished"]);
    expect(await batcher.take()).toBeUndefined();
  });

  it("hands over what is there before it fails", async () => {
    const { batcher } = createOne();
    batcher.delta("text", "a");
    batcher.fail(new DrawbridgeError("AGENT_CRASHED", "gone"));
    expect(shape(await batcher.take())).toEqual(["a"]);
    await expect(batcher.take()).rejects.toThrow("gone");
  });

  it("asks to slow down over its limit, and to go on when it was taken", async () => {
    const { batcher, pressure } = createOne(5);
    batcher.delta("text", "12345");
    expect(pressure).toEqual([]);
    batcher.delta("text", "6");
    batcher.delta("text", "7");
    expect(pressure).toEqual([true]);
    await batcher.take();
    expect(pressure).toEqual([true, false]);
  });
});
