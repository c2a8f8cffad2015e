import { describe, expect, it } from "vitest";
import { type Load, scale, type ScaleRecord } from "../../../services/controller/scale.ts";

const settings = { scale_up_after: 10_000, scale_down_after: 60_000 };
const bounds = { min: 1, max: 3 };
const idle: Load = { workers: 2, starting: 0, slots: 4, busy: 1, queued: 0 };
const full: Load = { workers: 1, starting: 0, slots: 2, busy: 2, queued: 3 };

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
    expect(grown).toEqual({ target: 2, pressedSince: undefined, idleSince: undefined });
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
});
