// The circuit breaker of an account, as pure functions: (state, what happened, now) → next state. Closed → open → half-open → closed.
// The window and its rates follow the common design (resilience4j's sliding window, Microsoft's circuit breaker pattern); what is ours is that a
// provider's "slow down" is a cool-down and no failure, and that a refused credential stays open until a person resets it.
import { clone, create } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { type Breaker, BreakerSchema, BreakerState } from "#gen/drawbridge/v1/account";
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import { End, type Outcome } from "#gen/drawbridge/v1/usage";
import type { Random } from "../../kit/random.ts";
import type { BreakerPolicy } from "../config.ts";

/** What a call says of its account. */
export type Sample =
  | { readonly kind: "success"; readonly slow: boolean }
  | { readonly kind: "failure" }
  /** Says nothing of the account. */
  | { readonly kind: "neutral" }
  /** The provider refused the credential. */
  | { readonly kind: "unauthorized" }
  /** The provider wants fewer calls, until a time if it named one (ms since 1970). */
  | { readonly kind: "cool_down"; readonly cause: ErrorReason; readonly until: number | undefined };

const failures: readonly ErrorReason[] = [
  ErrorReason.AGENT_CRASHED,
  ErrorReason.AGENT_ERROR,
  ErrorReason.AGENT_PROTOCOL,
  ErrorReason.DEADLINE_EXCEEDED,
];

export function sampleOf(outcome: Outcome, slowCallMs: number): Sample {
  const { reason } = outcome;
  if (reason === ErrorReason.AGENT_UNAUTHENTICATED) return { kind: "unauthorized" };
  if (reason === ErrorReason.AGENT_RATE_LIMITED || reason === ErrorReason.AGENT_USAGE_LIMIT) {
    return { kind: "cool_down", cause: reason, until: outcome.retryAt && timestampMs(outcome.retryAt) };
  }
  if (failures.includes(reason)) return { kind: "failure" };
  if (outcome.end !== End.FINISHED) return { kind: "neutral" };
  const { startedAt, firstContentAt } = outcome;
  const waitedMs = startedAt && firstContentAt ? timestampMs(firstContentAt) - timestampMs(startedAt) : 0;
  return { kind: "success", slow: waitedMs > slowCallMs };
}

/** One call in the window. */
export interface WindowEntry {
  readonly at: number;
  readonly failed: boolean;
  readonly slow: boolean;
}

/** The window with one more call, and without those that are too old or too many. */
export function slide(
  window: readonly WindowEntry[],
  entry: WindowEntry,
  policy: BreakerPolicy,
): readonly WindowEntry[] {
  const recent = window.filter((each) => each.at > entry.at - policy.window);
  return [...recent, entry].slice(-policy.window_calls);
}

/** Why a window opens the breaker; undefined: it does not. */
export function tripReason(window: readonly WindowEntry[], policy: BreakerPolicy): string | undefined {
  if (window.length < policy.calls_min) return undefined;
  const failed = window.filter((entry) => entry.failed).length;
  if (failed / window.length >= policy.failure_rate) {
    return `${failed} of the last ${window.length} calls failed`;
  }
  const slow = window.filter((entry) => entry.slow).length;
  if (slow / window.length >= policy.slow_call_rate) return `${slow} of the last ${window.length} calls were slow`;
  return undefined;
}

/** A breaker that has never opened. */
export function closedBreaker(accountId: string): Breaker {
  return create(BreakerSchema, { accountId, state: BreakerState.CLOSED });
}

/** Whether a call may pass now, as a probe or not. */
export function admits(breaker: Breaker, now: number): "call" | "probe" | "none" {
  const until = breaker.until && timestampMs(breaker.until);
  switch (breaker.state) {
    case BreakerState.OPEN:
      return until !== undefined && until <= now ? "probe" : "none";
    case BreakerState.HALF_OPEN:
      return breaker.probesLeft > 0 || (until !== undefined && until <= now) ? "probe" : "none";
    default:
      return "call";
  }
}

/** The breaker after a probe was given out; call it only where `admits` says "probe". */
export function takeProbe(breaker: Breaker, now: number, policy: BreakerPolicy): Breaker {
  const next = clone(BreakerSchema, breaker);
  if (breaker.state !== BreakerState.HALF_OPEN || breaker.probesLeft <= 0) {
    next.state = BreakerState.HALF_OPEN;
    next.probesLeft = policy.probes;
    next.probesSucceeded = 0;
    if (breaker.state !== BreakerState.HALF_OPEN) next.changedAt = timestampFromMs(now);
  }
  next.probesLeft -= 1;
  next.until = timestampFromMs(now + policy.probe_timeout);
  return next;
}

/** The breaker after a probe came to nothing: it may be given out again. undefined: it stays, since it is not for probes any more. */
export function returnProbe(breaker: Breaker, policy: BreakerPolicy): Breaker | undefined {
  if (breaker.state !== BreakerState.HALF_OPEN) return undefined;
  if (breaker.probesLeft + breaker.probesSucceeded >= policy.probes) return undefined;
  const next = clone(BreakerSchema, breaker);
  next.probesLeft += 1;
  return next;
}

export interface Transition {
  readonly breaker: Breaker;
  readonly sample: Sample;
  /** The account's recent calls, this one included. */
  readonly window: readonly WindowEntry[];
  readonly now: number;
  readonly policy: BreakerPolicy;
  readonly random: Random;
}

/** The next state; undefined: it stays. */
export function transition({ breaker, sample, window, now, policy, random }: Transition): Breaker | undefined {
  switch (sample.kind) {
    case "neutral":
      return undefined;
    case "unauthorized":
      return stopped(breaker, now);
    case "cool_down":
      if (breaker.state === BreakerState.OPEN) return extended(breaker, sample.until);
      return opened(breaker, {
        cause: sample.cause,
        reason: coolDownText(sample.cause),
        until: sample.until ?? now + grown(policy.cool_down, breaker.openings, policy.open_max, random),
        now,
      });
    case "failure":
    case "success":
      break;
    default:
      return sample satisfies never;
  }
  const until = now + grown(policy.open, breaker.openings, policy.open_max, random);
  if (breaker.state === BreakerState.HALF_OPEN) {
    if (sample.kind === "success") return probeSucceeded(breaker, now, policy);
    return opened(breaker, { cause: ErrorReason.UNSPECIFIED, reason: "a probe failed", until, now });
  }
  if (breaker.state === BreakerState.OPEN) return undefined;
  const reason = tripReason(window, policy);
  return reason ? opened(breaker, { cause: ErrorReason.UNSPECIFIED, reason, until, now }) : undefined;
}

interface Opening {
  readonly cause: ErrorReason;
  readonly reason: string;
  readonly until: number | undefined;
  readonly now: number;
}

function opened(breaker: Breaker, { cause, reason, until, now }: Opening): Breaker {
  const next = clone(BreakerSchema, breaker);
  next.state = BreakerState.OPEN;
  next.cause = cause;
  next.reason = reason;
  next.until = until === undefined ? undefined : timestampFromMs(Math.ceil(until));
  next.openings = breaker.openings + 1;
  next.probesLeft = 0;
  next.probesSucceeded = 0;
  next.changedAt = timestampFromMs(now);
  return next;
}

/** An open breaker only learns of a later time: many calls of the same moment are one opening, and one that a person must reset stays so. */
function extended(breaker: Breaker, until: number | undefined): Breaker | undefined {
  if (until === undefined || !breaker.until || timestampMs(breaker.until) >= until) return undefined;
  const next = clone(BreakerSchema, breaker);
  next.until = timestampFromMs(Math.ceil(until));
  return next;
}

function stopped(breaker: Breaker, now: number): Breaker | undefined {
  const cause = ErrorReason.AGENT_UNAUTHENTICATED;
  if (breaker.state === BreakerState.OPEN && breaker.cause === cause) return undefined;
  const reason = "the provider refused the account's credential; renew it, then reset the breaker";
  return opened(breaker, { cause, reason, until: undefined, now });
}

function coolDownText(cause: ErrorReason): string {
  return cause === ErrorReason.AGENT_USAGE_LIMIT
    ? "the provider says that the account's plan is used up"
    : "the provider asked to slow down";
}

function probeSucceeded(breaker: Breaker, now: number, policy: BreakerPolicy): Breaker {
  if (breaker.probesSucceeded + 1 >= policy.probes) return reset(breaker, now);
  const next = clone(BreakerSchema, breaker);
  next.probesSucceeded += 1;
  return next;
}

/** Closed, with nothing held against it. */
export function reset(breaker: Breaker, now: number): Breaker {
  const next = closedBreaker(breaker.accountId);
  next.revision = breaker.revision;
  next.changedAt = timestampFromMs(now);
  return next;
}

/** Doubles with every opening in a row, up to the limit; uniform in its upper half, so that schedulers do not probe in step. */
function grown(firstMs: number, openings: number, limitMs: number, random: Random): number {
  const full = Math.min(limitMs, firstMs * 2 ** Math.min(20, openings));
  return full / 2 + (random() * full) / 2;
}
