import { describe, expect, it } from "vitest";
import { type Load, scale, type ScaleRecord } from "../../../services/controller/scale.ts";

const settings = {
  scale_up_after: 10_000,
  scale_down_after: 60_000,
  scale_down_load: 0.8,
  scale_to_zero_after: 300_000,
  scale_cooldown: 90_000,
};
const bounds = { min: 1, max: 3 };
const calm = { queued: 0, waiting: 0, usedAt: undefined };
const idle: Load = { ...calm, workers: 2, starting: 0, slots: 4, busy: 1 };
const full: Load = { ...calm, workers: 1, starting: 0, slots: 2, busy: 2, queued: 3 };
const none: Load = { ...calm, workers: 0, starting: 0, slots: 0, busy: 0 };

function after(spans: readonly (readonly [number, Load])[], first?: ScaleRecord): ScaleRecord {
  let record = first;
  let now = 0;
  for (const [ms, load] of spans) {
    now += ms;
    record = scale(record, load, bounds, now, settings);
  }
  if (!record) throw new Error("no span");
  return record;
}

describe("scale", () => {
  it("takes over what runs, within the bounds", () => {
    expect(scale(undefined, idle, bounds, 0, settings).target).toBe(2);
    expect(scale(undefined, { ...idle, workers: 0 }, bounds, 0, settings).target).toBe(1);
    expect(scale(undefined, { ...idle, workers: 9 }, bounds, 0, settings).target).toBe(3);
  });

  it("grows when prompts queue for long enough, and again only after as long", () => {
    expect(
      after([
        [0, full],
        [9_999, full],
      ]).target,
    ).toBe(1);
    const grown = after([
      [0, full],
      [10_000, full],
    ]);
    expect(grown).toEqual({ target: 2, pressedSince: undefined, idleSince: undefined, changedAt: 10_000 });
    expect(
      after(
        [
          [0, full],
          [9_999, full],
        ],
        grown,
      ).target,
    ).toBe(2);
  });

  it("starts counting anew after a moment without a queue", () => {
    expect(
      after([
        [0, full],
        [9_000, { ...full, queued: 0 }],
        [1_000, full],
      ]).target,
    ).toBe(1);
  });

  it("does not grow while a worker starts, nor beyond the maximum", () => {
    const starting = { ...full, workers: 2, starting: 1 };
    expect(
      after([
        [0, starting],
        [60_000, starting],
      ]).target,
    ).toBe(2);
    const most = { ...full, workers: 3 };
    expect(
      after([
        [0, most],
        [60_000, most],
      ]).target,
    ).toBe(3);
  });

  it("shrinks when one less would do for long enough, and never below the minimum", () => {
    expect(
      after([
        [0, idle],
        [59_999, idle],
      ]).target,
    ).toBe(2);
    expect(
      after([
        [0, idle],
        [60_000, idle],
      ]).target,
    ).toBe(1);
    const one = { ...idle, workers: 1, slots: 2, busy: 0 };
    expect(
      after([
        [0, one],
        [600_000, one],
      ]).target,
    ).toBe(1);
  });

  it("waits after a step before it takes one back", () => {
    const grown = { target: 2, pressedSince: undefined, idleSince: undefined, changedAt: 0 };
    expect(scale({ ...grown, idleSince: 1 }, idle, bounds, 89_999, settings).target).toBe(2);
    expect(scale({ ...grown, idleSince: 1 }, idle, bounds, 90_000, settings).target).toBe(1);
  });

  it("keeps a worker that the rest could only just do without", () => {
    const three: Load = { ...calm, workers: 3, starting: 0, slots: 15, busy: 9 };
    expect(
      after([
        [0, three],
        [600_000, three],
      ]).target,
    ).toBe(3);
    expect(
      after([
        [0, { ...three, busy: 8 }],
        [600_000, { ...three, busy: 8 }],
      ]).target,
    ).toBe(2);
  });
});

describe("scale to zero and back", () => {
  const parked = { min: 0, max: 3 };
  const one: Load = { ...calm, workers: 1, starting: 0, slots: 2, busy: 0 };

  it("starts the first worker as soon as a request waits, and no other before that one serves", () => {
    const first = scale(undefined, none, parked, 0, settings);
    expect(first.target).toBe(0);
    const woken = scale(first, { ...none, waiting: 9 }, parked, 1, settings);
    expect(woken.target).toBe(1);
    const starting = { ...none, workers: 1, starting: 1, waiting: 9 };
    expect(scale(woken, starting, parked, 60_000, settings).target).toBe(1);
  });

  it("counts what waits at schedulers like what waits at workers", () => {
    const waiting = { ...full, queued: 0, waiting: 1 };
    expect(
      after([
        [0, waiting],
        [10_000, waiting],
      ]).target,
    ).toBe(2);
    expect(
      after([
        [0, { ...waiting, busy: 1 }],
        [10_000, { ...waiting, busy: 1 }],
      ]).target,
    ).toBe(1);
  });

  it("ends the last worker when it has had no prompt for long enough, one between two looks counted", () => {
    const begun = scale(undefined, one, parked, 0, settings);
    expect(scale(begun, one, parked, 299_999, settings).target).toBe(1);
    expect(scale(begun, one, parked, 300_000, settings).target).toBe(0);
    const used = { ...one, usedAt: 200_000 };
    const kept = scale(begun, used, parked, 300_000, settings);
    expect(kept.target).toBe(1);
    expect(scale(kept, used, parked, 500_000, settings).target).toBe(0);
  });

  it("keeps the last worker while a prompt runs, and above a minimum of one", () => {
    const busy = { ...one, busy: 1 };
    const begun = scale(undefined, busy, parked, 0, settings);
    expect(scale(begun, busy, parked, 900_000, settings).target).toBe(1);
    expect(
      after([
        [0, one],
        [900_000, one],
      ]).target,
    ).toBe(1);
  });
});
