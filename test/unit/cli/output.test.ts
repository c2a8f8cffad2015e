// What people read: amounts, times, aligned columns.
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { ApiKeySchema } from "#gen/drawbridge/v1/access_service";
import { AccountSchema } from "#gen/drawbridge/v1/account";
import { createPrinter } from "../../../services/cli/output/print.ts";
import { remarkLines } from "../../../services/cli/output/remarks.ts";
import { createTable, fieldLines } from "../../../services/cli/output/table.ts";
import { creditsText, dollarsText, localTimeText, plainText, relativeText } from "../../../services/cli/output/text.ts";
import { keyView, type View } from "../../../services/cli/output/views.ts";

const now = Date.UTC(2026, 0, 31, 18);
const hourMs = 3_600_000;

describe("amounts", () => {
  it.each([
    [1_500_000n, "$1.50"],
    [0n, "$0.00"],
    [1n, "$0.000001"],
    [393n, "$0.000393"],
    [1_234_500n, "$1.2345"],
    [9_007_199_254_740_991n, "$9007199254.740991"],
    [20_000_000, "$20.00"],
  ])("%s millionths are %s", (micros, text) => {
    expect(dollarsText(micros)).toBe(text);
  });

  it.each([
    [1_000_000n, "1000"],
    [12_500n, "12.5"],
    [1n, "0.001"],
    [0n, "0"],
    [100n, "0.1"],
  ])("%s thousandths are %s credits", (millicredits, text) => {
    expect(creditsText(millicredits)).toBe(text);
  });
});

describe("times", () => {
  it.each([
    [now - 3 * 60_000, "3m ago"],
    [now - 59_999, "59s ago"],
    [now + 29.9 * 24 * hourMs, "in 29d"],
    [now + 2 * hourMs, "in 2h"],
    [now - 999, "now"],
  ])("%d is %s", (at, text) => {
    expect(relativeText(at, now)).toBe(text);
  });

  it("are local where they are absolute", () => {
    const local = new Date(2026, 0, 2, 3, 4, 5);
    expect(localTimeText(local.getTime())).toBe("2026-01-02 03:04:05");
  });
});

describe("a table", () => {
  const columns = [
    { title: "NAME", text: (row: { name: string; count: number }) => row.name },
    { title: "COUNT", text: (row: { name: string; count: number }) => String(row.count), right: true },
  ];

  it("is aligned, numbers at the right, nothing at the ends of lines", () => {
    const page = createTable(columns, now).page([
      { name: "a", count: 5 },
      { name: "größer 🦊", count: 12_345_678 },
      { name: "", count: 0 },
    ]);
    expect(page.split("\n")).toEqual([
      "NAME         COUNT",
      "a                5",
      "größer 🦊  12345678",
      "-                0",
      "",
    ]);
  });

  it("has its titles once, however many pages come", () => {
    const table = createTable(columns, now);
    expect(table.page([{ name: "abcdef", count: 1 }])).toBe("NAME    COUNT\nabcdef      1\n");
    expect(table.page([{ name: "g", count: 2 }])).toBe("g           2\n");
  });

  it("shows one object a field a line", () => {
    expect(fieldLines(columns, { name: "a", count: 5 }, now)).toBe("name   a\ncount  5\n");
  });

  it("cannot be used to steer a terminal", () => {
    expect(plainText("red\u001b[31m\r\nline\u0007\u009b2J")).toBe("red [31m line 2J");
    expect(createTable(columns, now).page([{ name: "a\nb", count: 1 }])).toContain("a b");
  });
});

describe("the state of a key", () => {
  it.each([
    [{}, "valid"],
    [{ expiresAt: timestampFromMs(now + hourMs) }, "expires in 1h"],
    [{ expiresAt: timestampFromMs(now - hourMs) }, "expired 1h ago"],
    [{ expiresAt: timestampFromMs(now + hourMs), revokedAt: timestampFromMs(now - 60_000) }, "revoked 1m ago"],
  ])("%# is told", (fields, text) => {
    const state = keyView.columns.find(({ title }) => title === "STATE");
    expect(state?.text(create(ApiKeySchema, fields), now)).toBe(text);
  });
});

describe("remarks on an account", () => {
  const account = (conditions: { type: string; status: boolean; message: string }[]) =>
    create(AccountSchema, { spec: { id: "a-1" }, conditions });

  it("are none where all is well", () => {
    const conditions = [
      { type: "Ready", status: true, message: "At least one worker takes prompts." },
      { type: "Degraded", status: false, message: "Nothing is wrong." },
    ];
    expect(remarkLines(account(conditions))).toBe("");
  });

  it("say once why it is not ready", () => {
    const message = "The provider refused the credential.";
    const conditions = [
      { type: "Ready", status: false, message },
      { type: "Unauthorized", status: true, message },
      { type: "Degraded", status: true, message: "The breaker is open." },
    ];
    expect(remarkLines(account(conditions))).toBe(`a-1: ${message}\na-1: The breaker is open.\n`);
  });
});

describe("a list", () => {
  const view: View<number> = {
    json: (item) => ({ item }),
    none: "There is nothing.",
    columns: [{ title: "ITEM", text: String, right: true }],
  };

  async function printed(pages: readonly (readonly number[])[], json: boolean): Promise<string> {
    let text = "";
    const output = { terminal: false, write: async (part: string) => void (text += part) };
    await createPrinter({ output, json, now: () => now }).list(pages, view);
    return text;
  }

  it.each([[[]], [[[]]], [[[1]]], [[[1, 2], [3]]], [[[1], [], [2]]]])(
    "of the pages %j is one JSON array",
    async (pages: number[][]) => {
      expect(JSON.parse(await printed(pages, true))).toEqual(pages.flat().map((item) => ({ item })));
    },
  );

  it("for people has every item once, or says that there is none", async () => {
    expect(await printed([[1, 2], [300]], false)).toBe("ITEM\n   1\n   2\n 300\n");
    expect(await printed([[]], false)).toBe("There is nothing.\n");
  });
});
