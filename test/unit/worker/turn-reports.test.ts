import { describe, expect, it } from "vitest";
import { claudeProfile } from "../../../services/worker/profiles/claude.ts";
import { kiroProfile } from "../../../services/worker/profiles/kiro.ts";
import { qwenProfile } from "../../../services/worker/profiles/qwen.ts";
import { createProseErrors } from "../../../services/worker/turn/prose-errors.ts";
import { createTurnReports } from "../../../services/worker/turn/turn-reports.ts";

const session = () => ({
  id: "s",
  directory: "/tmp/none",
  opened: {},
  begin: {},
  used: false,
  reportedMillicredits: 0,
  model: undefined,
});
const cost = (amount: unknown, currency = "USD") => ({ sessionUpdate: "usage_update", cost: { amount, currency } });

describe("what an agent reports during a turn", () => {
  it("as the cost of the session so far is paid as a difference, turn by turn", () => {
    const shared = session();
    const first = createTurnReports(claudeProfile, shared, "m");
    first.update(cost(0.25));
    first.update(cost(0.3));
    expect(first.millicredits).toBe(300);
    const second = createTurnReports(claudeProfile, shared, "m");
    second.update(cost(0.3));
    second.update(cost(0.5));
    expect(second.millicredits).toBe(200);
  });

  it.each([
    ["another currency", cost(1, "EUR")],
    ["a negative amount", cost(-1)],
    ["no number", cost("1")],
    ["no cost", { sessionUpdate: "usage_update", used: 5 }],
  ])("with %s says nothing of credits", (_, update) => {
    const reports = createTurnReports(claudeProfile, session(), "m");
    reports.update(update);
    expect(reports.millicredits).toBeUndefined();
  });

  it("as a cost says nothing where the profile has no rate", () => {
    const reports = createTurnReports(qwenProfile, session(), "m");
    reports.update(cost(1));
    expect(reports.millicredits).toBeUndefined();
  });

  it("as tokens of several model calls is summed", () => {
    const reports = createTurnReports(qwenProfile, session(), "m");
    const usage = { inputTokens: 100, outputTokens: 10, totalTokens: 110 };
    const update = { sessionUpdate: "agent_message_chunk", content: { type: "text", text: "" }, _meta: { usage } };
    reports.update(update);
    reports.update(update);
    expect(reports.usage).toEqual({ inputTokens: 200, outputTokens: 20, totalTokens: 220 });
  });

  it("as the fill of the context becomes tokens, in both of kiro-cli's namespaces", () => {
    for (const method of ["_kiro.dev/metadata", "_kiro/metadata"]) {
      const reports = createTurnReports(kiroProfile, session(), "m");
      let told = false;
      reports.onMillicredits(() => (told = true));
      reports.vendor(method, { sessionId: "s", contextUsagePercentage: 1.5 });
      expect(reports.contextTokens).toBe(3_000);
      expect(told).toBe(false);
      reports.vendor(method, { sessionId: "s", meteringUsage: [{ value: 0.123, unit: "credit" }] });
      expect(reports.millicredits).toBe(123);
      expect(told).toBe(true);
    }
  });

  it("as a keep-alive says nothing", () => {
    const reports = createTurnReports(kiroProfile, session(), "m");
    reports.vendor("_kiro.dev/metadata", { sessionId: "s" });
    reports.vendor("_kiro.dev/metadata", { sessionId: "s", contextUsagePercentage: "many", meteringUsage: null });
    expect([reports.millicredits, reports.contextTokens]).toEqual([undefined, undefined]);
  });
});

describe("an answer that begins like the report of a failure", () => {
  const rules = claudeProfile.proseErrors;

  it("is held back, and only at its beginning", () => {
    const prose = createProseErrors(rules);
    expect(prose.push("API Error: 529 overloaded")).toBe("");
    expect(prose.push(" now")).toBe("");
    expect(prose.held).toBe("API Error: 529 overloaded now");
    const other = createProseErrors(rules);
    expect(other.push("So: ")).toBe("So: ");
    expect(other.push("API Error: 529")).toBe("API Error: 529");
    expect(other.held).toBe("");
  });

  it("goes out when it is longer than any report", () => {
    const prose = createProseErrors(rules);
    prose.push("API Error: 500 means ");
    expect(prose.push("x".repeat(4_000))).toBe(`API Error: 500 means ${"x".repeat(4_000)}`);
    expect(prose.push("more")).toBe("more");
  });

  it("is none where the profile knows none", () => {
    expect(createProseErrors().push("API Error: 500")).toBe("API Error: 500");
  });
});
