// The scheduler's settings. Durations are written like "60s" and read as milliseconds.
import { z } from "zod";
import { duration } from "../kit/settings.ts";

const breakerSettings = z.strictObject({
  /** Calls older than this do not count. Default 30s. */
  window: duration().prefault("30s"),
  /** At most so many calls count, in calls. Default 100. */
  window_calls: z.int().min(1).max(10_000).default(100),
  /** Fewer calls than this in the window open nothing, in calls. Default 5. */
  calls_min: z.int().min(1).max(1_000).default(5),
  /** The share of failures that opens, from 0 to 1. Default 0.5. */
  failure_rate: z.number().gt(0).max(1).default(0.5),
  /** A call whose first content takes longer is slow. Default 60s. */
  slow_call: duration().prefault("60s"),
  /** The share of slow calls that opens, from 0 to 1. Default 0.9. */
  slow_call_rate: z.number().gt(0).max(1).default(0.9),
  /** The first open time; it doubles with every opening in a row. Default 2s. */
  open: duration().prefault("2s"),
  /** The longest open time. Default 5m. */
  open_max: duration().prefault("5m"),
  /** The first cool-down where a provider asks to slow down and does not say how long. Default 5s. */
  cool_down: duration().prefault("5s"),
  /** Calls that a half-open breaker lets through, over all schedulers; all of them must succeed. Default 2. */
  probes: z.int().min(1).max(100).default(2),
  /** Probes that nobody reported are given out again after so long. Default 60s. */
  probe_timeout: duration().prefault("60s"),
  /** Failures alone take out at most this share of a model's accounts, from 0 to 1. Default 0.5. */
  open_share_max: z.number().min(0).max(1).default(0.5),
});

export const schedulerSettings = z
  .strictObject({
    /** A lease that nobody renews or reports ends after so long. Default 60s. */
    lease_ttl: duration().prefault("60s"),
    /** How often leases that ended are looked for. Default 5s. */
    sweep_interval: duration().prefault("5s"),
    /** How often accounts, credits and breakers are read again without a hint. Default 1s. */
    refresh_interval: duration().prefault("1s"),
    /** What a client is told to wait when nothing can be taken now. Default 1s. */
    retry_after: duration().prefault("1s"),
    /** A worker that could not be reached takes nothing for so long, unless it shows itself. Default 5s. */
    worker_down: duration().prefault("5s"),
    /** Time for a Dispatch whose caller names no deadline. Default 600s. */
    dispatch_timeout: duration().prefault("600s"),
    breaker: breakerSettings.prefault({}),
  })
  .prefault({});

export type SchedulerSettings = z.output<typeof schedulerSettings>;
export type BreakerPolicy = SchedulerSettings["breaker"];
