// How a channel fares, by this gateway's own calls: closed, open for a while, then one probe. Pure but for what it remembers; time is passed in.
import { ChannelState } from "#gen/drawbridge/v1/channel";
import type { Random } from "../../../kit/random.ts";
import type { ChannelBreakerPolicy } from "../spec.ts";

/** What a try says of its channel; "neutral": nothing. */
export type Sample = "success" | "failure" | "neutral";

export interface Condition {
  readonly state: ChannelState;
  readonly reason: string;
  /** Wall time in ms; undefined: it is ready, or a person must act. */
  readonly until: number | undefined;
}

export const ready: Condition = { state: ChannelState.READY, reason: "", until: undefined };

export interface Health {
  condition(now: number): Condition;
  /** Whether a try may begin. */
  admits(now: number): boolean;
  /** Begins a try, if one may begin; its end must be told, once. */
  begin(now: number): ((sample: Sample, now: number) => void) | undefined;
}

/** At most so many calls count. */
const windowCallsMax = 100;

export function createHealth(policy: ChannelBreakerPolicy, random: Random): Health {
  let window: { readonly at: number; readonly failed: boolean }[] = [];
  let openUntil: number | undefined;
  let openings = 0;
  let probing = false;
  let reason = "";
  /** Calls of before an opening or a closing say nothing of what came after it. */
  let era = 0;

  const open = (why: string, now: number) => {
    const full = Math.min(policy.openMaxMs, policy.openMs * 2 ** Math.min(20, openings));
    // In the upper half, so that gateways do not probe in step.
    openUntil = Math.ceil(now + full / 2 + (random() * full) / 2);
    openings += 1;
    reason = why;
    era += 1;
  };
  const close = () => {
    openUntil = undefined;
    openings = 0;
    window = [];
    era += 1;
  };
  const endProbe = (sample: Sample, now: number) => {
    probing = false;
    if (sample === "success") close();
    else if (sample === "failure") open("a probe failed", now);
  };
  const endCall = (sample: Sample, now: number) => {
    if (sample === "neutral") return;
    const recent = window.filter(({ at }) => at > now - policy.windowMs);
    window = [...recent, { at: now, failed: sample === "failure" }].slice(-windowCallsMax);
    const failed = window.filter((each) => each.failed).length;
    if (sample !== "failure" || window.length < policy.callsMin || failed / window.length < policy.failureRate) return;
    open(`${failed} of the last ${window.length} calls failed`, now);
  };

  return {
    condition(now) {
      if (openUntil === undefined) return ready;
      if (now < openUntil) return { state: ChannelState.OPEN, reason, until: openUntil };
      return { state: ChannelState.HALF_OPEN, reason, until: undefined };
    },
    admits: (now) => openUntil === undefined || (now >= openUntil && !probing),
    begin(now) {
      const own = era;
      if (openUntil === undefined) return (sample, at) => (own === era ? endCall(sample, at) : undefined);
      if (now < openUntil || probing) return undefined;
      probing = true;
      return endProbe;
    },
  };
}
