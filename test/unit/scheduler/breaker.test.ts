import { create } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { describe, expect, test } from "vitest";
import { type Breaker, BreakerSchema, BreakerState } from "#gen/drawbridge/v1/account";
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import { End, OutcomeSchema } from "#gen/drawbridge/v1/usage";
import {
  admits,
  closedBreaker,
  returnProbe,
  reset,
  type Sample,
  sampleOf,
  slide,
  takeProbe,
  transition,
  tripReason,
  type WindowEntry,
} from "../../../services/scheduler/breaker/breaker.ts";
import { schedulerSettings } from "../../../services/scheduler/config.ts";

const policy = schedulerSettings.parse({}).breaker;
const now = Date.UTC(2026, 0, 1);
const failure: Sample = { kind: "failure" };
const success: Sample = { kind: "success", slow: false };

const calls = (pattern: string): WindowEntry[] =>
  pattern.split("").map((letter) => ({ at: now, failed: letter === "f", slow: letter === "s" }));

const step = (breaker: Breaker, sample: Sample, window: readonly WindowEntry[] = [], at = now, random = () => 1) =>
  transition({ breaker, sample, window, now: at, policy, random });

/** A breaker that failures have just opened. */
function opened(openings = 0): Breaker {
  const breaker = closedBreaker("a");
  breaker.openings = openings;
  const next = step(breaker, failure, calls("fffff"));
  if (!next) throw new Error("five failures open a breaker");
  return next;
}

const untilOf = (breaker: Breaker | undefined) => breaker?.until && timestampMs(breaker.until) - now;

describe("the window", () => {
  test("forgets calls that are too old or too many", () => {
    const old = { at: now - policy.window, failed: true, slow: false };
    const recent = { at: now - 1, failed: false, slow: false };
    expect(slide([old, recent], { at: now, failed: true, slow: false }, policy)).toHaveLength(2);
    const many = Array.from({ length: policy.window_calls }, () => recent);
    expect(slide(many, recent, policy)).toHaveLength(policy.window_calls);
  });

  test.each([
    ["ffff", undefined],
    ["fffff", "5 of the last 5 calls failed"],
    ["okfff", "3 of the last 5 calls failed"],
    ["okkff", undefined],
    ["sssss", "5 of the last 5 calls were slow"],
    ["ssssk", undefined],
  ])("%s", (pattern, reason) => {
    expect(tripReason(calls(pattern), policy)).toBe(reason);
  });
});

describe("closed", () => {
  test("opens when the window says so, and tells why and until when", () => {
    const next = opened();
    expect(next).toMatchObject({ state: BreakerState.OPEN, openings: 1, reason: "5 of the last 5 calls failed" });
    expect(untilOf(next)).toBe(policy.open);
  });

  test("stays at a success, a few failures, and what says nothing of the account", () => {
    expect(step(closedBreaker("a"), success, calls("kkkkk"))).toBeUndefined();
    expect(step(closedBreaker("a"), failure, calls("fff"))).toBeUndefined();
    expect(step(closedBreaker("a"), { kind: "neutral" }, calls("fffff"))).toBeUndefined();
  });

  test("opens at once, until a person resets it, when the credential is refused", () => {
    const next = step(closedBreaker("a"), { kind: "unauthorized" });
    expect(next).toMatchObject({ state: BreakerState.OPEN, cause: ErrorReason.AGENT_UNAUTHENTICATED });
    expect(next?.until).toBeUndefined();
    expect(next && admits(next, now + 1e12)).toBe("none");
    expect(next && step(next, { kind: "unauthorized" })).toBeUndefined();
  });

  test("cools down until the time that the provider named", () => {
    const until = now + 90_000;
    const next = step(closedBreaker("a"), { kind: "cool_down", cause: ErrorReason.AGENT_RATE_LIMITED, until });
    expect(next).toMatchObject({ state: BreakerState.OPEN, cause: ErrorReason.AGENT_RATE_LIMITED });
    expect(untilOf(next)).toBe(90_000);
  });

  test("cools down for a growing time where the provider named none", () => {
    const coolDown: Sample = { kind: "cool_down", cause: ErrorReason.AGENT_RATE_LIMITED, until: undefined };
    const again = closedBreaker("a");
    again.openings = 2;
    expect(untilOf(step(closedBreaker("a"), coolDown))).toBe(policy.cool_down);
    expect(untilOf(step(again, coolDown))).toBe(policy.cool_down * 4);
  });
});

describe("open", () => {
  test("lets nothing pass until its time, then a probe", () => {
    const breaker = opened();
    expect(admits(breaker, now)).toBe("none");
    expect(admits(breaker, now + policy.open)).toBe("probe");
  });

  test("learns nothing from calls that began before", () => {
    expect(step(opened(), success)).toBeUndefined();
    expect(step(opened(), failure, calls("fffff"))).toBeUndefined();
  });

  test("is one opening for many calls that were told to slow down, and takes the latest time that was named", () => {
    const slowDown = (until?: number): Sample => ({ kind: "cool_down", cause: ErrorReason.AGENT_RATE_LIMITED, until });
    const breaker = opened();
    expect(step(breaker, slowDown())).toBeUndefined();
    expect(step(breaker, slowDown(now + 1))).toBeUndefined();
    expect(step(breaker, slowDown(now + 60_000))).toMatchObject({ openings: 1, until: timestampFromMs(now + 60_000) });
    const stopped = step(closedBreaker("a"), { kind: "unauthorized" }) ?? breaker;
    expect(step(stopped, slowDown(now + 60_000))).toBeUndefined();
  });

  test("stays open longer each time, up to a limit, with jitter in the upper half", () => {
    expect(untilOf(opened(1))).toBe(policy.open * 2);
    expect(untilOf(opened(30))).toBe(policy.open_max);
    const breaker = closedBreaker("a");
    expect(untilOf(step(breaker, failure, calls("fffff"), now, () => 0))).toBe(policy.open / 2);
  });
});

describe("half-open", () => {
  const later = now + policy.open;

  test("gives out so many probes and no more", () => {
    let breaker = opened();
    for (let probe = 0; probe < policy.probes; probe += 1) {
      expect(admits(breaker, later)).toBe("probe");
      breaker = takeProbe(breaker, later, policy);
    }
    expect(breaker).toMatchObject({ state: BreakerState.HALF_OPEN, probesLeft: 0 });
    expect(admits(breaker, later)).toBe("none");
  });

  test("gives them out again when nobody told how they went", () => {
    let breaker = opened();
    for (let probe = 0; probe < policy.probes; probe += 1) breaker = takeProbe(breaker, later, policy);
    expect(admits(breaker, later + policy.probe_timeout)).toBe("probe");
  });

  test("closes when all probes succeeded, and begins anew", () => {
    let breaker = takeProbe(opened(3), later, policy);
    for (let probe = 0; probe < policy.probes; probe += 1) breaker = step(breaker, success, [], later) ?? breaker;
    expect(breaker).toMatchObject({ state: BreakerState.CLOSED, openings: 0, reason: "" });
  });

  test("opens again, for longer, when one failed", () => {
    const next = step(takeProbe(opened(), later, policy), failure, [], later);
    expect(next).toMatchObject({ state: BreakerState.OPEN, openings: 2, reason: "a probe failed" });
  });

  test("a probe that came to nothing is given out again, and never more than there are", () => {
    let breaker = opened();
    for (let probe = 0; probe < policy.probes; probe += 1) breaker = takeProbe(breaker, later, policy);
    const again = returnProbe(breaker, policy);
    expect(again && admits(again, later)).toBe("probe");
    const full = create(BreakerSchema, {
      state: BreakerState.HALF_OPEN,
      probesLeft: 1,
      probesSucceeded: policy.probes - 1,
    });
    expect(returnProbe(full, policy)).toBeUndefined();
    expect(returnProbe(opened(), policy)).toBeUndefined();
  });

  test("a client that cancels a probe decides nothing", () => {
    expect(step(takeProbe(opened(), later, policy), { kind: "neutral" }, [], later)).toBeUndefined();
  });
});

test("a reset closes and keeps the revision to write over", () => {
  const breaker = opened();
  breaker.revision = 7n;
  expect(reset(breaker, now)).toMatchObject({ state: BreakerState.CLOSED, revision: 7n, openings: 0 });
});

describe("what an outcome says", () => {
  const outcome = (fields: object) => create(OutcomeSchema, { end: End.FAILED_BEFORE_CONTENT, ...fields });

  test.each([
    ["crash", ErrorReason.AGENT_CRASHED, "failure"],
    ["error", ErrorReason.AGENT_ERROR, "failure"],
    ["time-out", ErrorReason.DEADLINE_EXCEEDED, "failure"],
    ["refused credential", ErrorReason.AGENT_UNAUTHENTICATED, "unauthorized"],
    ["slow down", ErrorReason.AGENT_RATE_LIMITED, "cool_down"],
    ["plan used up", ErrorReason.AGENT_USAGE_LIMIT, "cool_down"],
    ["a prompt too long", ErrorReason.CONTEXT_LENGTH_EXCEEDED, "neutral"],
    ["a worker that is away", ErrorReason.WORKER_UNREACHABLE, "neutral"],
  ])("%s", (_, reason, kind) => {
    expect(sampleOf(outcome({ reason }), policy.slow_call).kind).toBe(kind);
  });

  test("a client that left says nothing", () => {
    expect(sampleOf(outcome({ end: End.CANCELLED }), policy.slow_call).kind).toBe("neutral");
  });

  test("a late first content is slow", () => {
    const startedAt = timestampFromMs(now);
    const finished = (waitedMs: number) =>
      sampleOf(outcome({ end: End.FINISHED, startedAt, firstContentAt: timestampFromMs(now + waitedMs) }), 1_000);
    expect(finished(1_000)).toEqual({ kind: "success", slow: false });
    expect(finished(1_001)).toEqual({ kind: "success", slow: true });
  });
});
