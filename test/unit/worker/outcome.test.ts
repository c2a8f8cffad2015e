import { describe, expect, it } from "vitest";
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import { StopReason } from "#gen/drawbridge/v1/prompt";
import { End, UsageSource } from "#gen/drawbridge/v1/usage";
import { DrawbridgeError } from "../../../services/kit/errors.ts";
import {
  failureVerdict,
  outcomeOf,
  stopVerdict,
  type Verdict,
  verdictOf,
} from "../../../services/worker/turn/outcome.ts";
import { nothingMetered } from "../../../services/worker/turn/usage.ts";
import type { TurnEnd, TurnResult } from "../../../services/worker/turn/turn.ts";

const result = (end: TurnEnd, fields: Partial<TurnResult> = {}): TurnResult => ({
  end,
  answer: undefined,
  millicredits: undefined,
  ...fields,
});
const facts = {
  requestId: "req_1",
  attemptId: "att_1",
  accountId: "a",
  workerId: "w",
  startedAtMs: 1_000,
  firstContentAtMs: 2_000 as number | undefined,
  endedAtMs: 3_000,
  metered: { inputTokens: 10, outputTokens: 5, reasoningTokens: 0 },
};
const execution = (verdict: Verdict, ...results: TurnResult[]) => ({
  verdict,
  results,
  billed: nothingMetered,
  conversation: "",
});
const crash = new DrawbridgeError("AGENT_CRASHED", "gone");
const late = new DrawbridgeError("DEADLINE_EXCEEDED", "late");

describe("the verdict", () => {
  it.each([
    ["crash before content", failureVerdict(crash, false), End.FAILED_BEFORE_CONTENT],
    ["crash after content", failureVerdict(crash, true), End.FAILED_AFTER_CONTENT],
    ["deadline before content", failureVerdict(late, false), End.FAILED_BEFORE_CONTENT],
    ["deadline after content", failureVerdict(late, true), End.TIMEOUT],
    ["caller's deadline after content", stopVerdict("deadline", true), End.TIMEOUT],
    ["drained before content", stopVerdict("draining", false), End.FAILED_BEFORE_CONTENT],
    ["cancelled", stopVerdict("cancelled", true), End.CANCELLED],
    ["caller left", stopVerdict("caller_left", false), End.CANCELLED],
  ])("of %s", (_, verdict, end) => {
    expect(verdict.end).toBe(end);
  });

  it("of an agent that cancels by itself is a failure", () => {
    expect(verdictOf(result({ kind: "finished", stopReason: "cancelled" }), undefined, true)).toMatchObject({
      kind: "failed",
      end: End.FAILED_AFTER_CONTENT,
    });
  });

  it("of a cut is a finish", () => {
    const verdict = verdictOf(result({ kind: "cut", cut: "stop_sequence" }), undefined, true);
    expect(verdict).toMatchObject({ kind: "finished", stopReason: StopReason.STOP_SEQUENCE, end: End.FINISHED });
  });
});

describe("the outcome", () => {
  it("of a failure before content names no usage, and the credits that the agent reported", () => {
    const turn = result({ kind: "failed", error: crash }, { millicredits: 40 });
    const outcome = outcomeOf({ ...facts, firstContentAtMs: undefined }, execution(failureVerdict(crash, false), turn));
    expect(outcome).toMatchObject({ content: false, reason: ErrorReason.AGENT_CRASHED, millicredits: 40n });
    expect(outcome.usage).toBeUndefined();
    expect(outcome.firstContentAt).toBeUndefined();
  });

  it("of a failure after content names what was produced", () => {
    const outcome = outcomeOf(facts, execution(failureVerdict(crash, true), result({ kind: "failed", error: crash })));
    expect(outcome).toMatchObject({ content: true, usage: { outputTokens: 5n, source: UsageSource.ESTIMATED } });
  });

  it("of a prompt that no agent got names nothing", () => {
    expect(
      outcomeOf({ ...facts, firstContentAtMs: undefined }, execution(stopVerdict("cancelled", false))).usage,
    ).toBeUndefined();
  });

  it("says when the provider wants more calls", () => {
    const error = new DrawbridgeError("AGENT_RATE_LIMITED", "slow down", { retryAfterMs: 7_000 });
    const outcome = outcomeOf(facts, execution(failureVerdict(error, false), result({ kind: "failed", error })));
    expect(outcome.retryAt?.seconds).toBe(10n);
  });
});
