import { describe, expect, it } from "vitest";
import { demandByAccount } from "../../../services/controller/demand.ts";
import { observe } from "../../../services/controller/observe.ts";
import { account, now, processOf, settings } from "./fixtures.ts";

const rich = account("rich", { slots: 2, workers: { min: 0, max: 2 } }, { available: 9_000n });
const poor = account("poor", { slots: 2, workers: { min: 0, max: 2 } }, { available: 2_000n });
const nobody = () => false;

function given(waiting: number, accounts = [poor, rich], isHeldBack: (id: string) => boolean = nobody) {
  return Object.fromEntries(demandByAccount([{ model: "m", waiting }], accounts, [], isHeldBack));
}

describe("demand", () => {
  it("goes to the account with the most credits first, as far as its workers could ever go", () => {
    expect(given(1)).toEqual({ rich: 1 });
    expect(given(4)).toEqual({ rich: 4 });
    expect(given(5)).toEqual({ rich: 4, poor: 1 });
    expect(given(50)).toEqual({ rich: 4, poor: 4 });
  });

  it("goes to an account that has a worker, or whose worker starts, before others", () => {
    const starting = observe(
      {
        workers: [],
        processes: [processOf("poor-1", poor)],
        owned: new Set(["poor-1"]),
        health: new Map(),
        draining: new Map(),
        lost: new Map(),
        trusted: true,
        leadingSince: 0,
        now,
      },
      settings,
    );
    const share = demandByAccount([{ model: "m", waiting: 3 }], [rich, poor], starting, nobody);
    expect(Object.fromEntries(share)).toEqual({ poor: 3 });
  });

  it("passes by accounts that do not serve the model, have no credits, are drained, or are held back", () => {
    const other = account("other", { models: { n: "n" } });
    const empty = account("empty", {}, { available: 0n });
    const drained = account("drained", { drained: true });
    expect(given(1, [other, empty, drained])).toEqual({});
    expect(given(1, [poor, rich], (id) => id === "rich")).toEqual({ poor: 1 });
  });

  it("of several models is added up", () => {
    const both = account("both", { models: { m: "m", n: "n" }, slots: 9 });
    const demand = [
      { model: "m", waiting: 2 },
      { model: "n", waiting: 3 },
    ];
    expect(Object.fromEntries(demandByAccount(demand, [both], [], nobody))).toEqual({ both: 5 });
  });
});
