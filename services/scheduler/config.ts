// The scheduler's settings. Durations are written like "60s" and read as milliseconds.
import { z } from "zod";
import { retrySettings } from "../client/config.ts";
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

const queueSettings = z.strictObject({
  /** Requests that may wait at one scheduler, over all models; beyond it they are refused. 0: none waits. Default 1000. */
  size: z.int().min(0).max(1_000_000).default(1_000),
  /** A request waits at most so long for a slot, and never longer than its deadline. Default 60s. */
  wait_max: duration().prefault("60s"),
  /** A request waits at most so long for the first worker of a model that has none. Default 30s. */
  cold_start_wait: duration().prefault("30s"),
  /** Prompts that may wait at a worker beyond its slots, within its account's own queue; the others wait here, where they have a choice. Default 0. */
  worker_backlog: z.int().min(0).max(100_000).default(0),
  /** Turns that waiting requests of high priority get, beside those of the other classes. Default 8. */
  weight_high: z.number().gt(0).max(1_000).default(8),
  /** The same for normal priority. Default 4. */
  weight_normal: z.number().gt(0).max(1_000).default(4),
  /** The same for low priority. Default 1. */
  weight_low: z.number().gt(0).max(1_000).default(1),
  /** How often the number of waiting requests is told to the controller and to other schedulers, and theirs read. Default 500ms. */
  demand_interval: duration().prefault("500ms"),
  /** Where requests wait at other schedulers too, they have the first go at their share of the free slots for so long. Default 200ms. */
  yield: duration().prefault("200ms"),
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
    /** How accounts with a free slot are ordered: by "credits" × free slots, or "least_loaded" first. Default "credits". */
    policy: z.enum(["credits", "least_loaded"]).default("credits"),
    /** Candidates that are tried in the store, one after another, when claims are refused. Default 4. */
    claim_tries: z.int().min(1).max(64).default(4),
    /** After the store refused a claim, the account's worker is not tried again for so long. Default 100ms. */
    claim_pause: duration().prefault("100ms"),
    /** An account whose first content takes so many times as long as the others' comes after them, with less weight. Default 3. */
    slow_ratio: z.number().gt(1).max(1_000).default(3),
    /** Fewer calls than this say nothing of an account's speed. Default 3. */
    slow_calls_min: z.int().min(1).max(1_000).default(3),
    /** A slow account that took no call for so long counts as any other, so that it can show itself again. Default 30s. */
    slow_memory: duration().prefault("30s"),
    /** Requests whose decision is remembered for `explain --request`, the newest ones. 0: none. Default 1000. */
    decisions_kept: z.int().min(0).max(1_000_000).default(1_000),
    /** Candidates that are remembered of a decision, the best ones. Default 32. */
    decision_candidates: z.int().min(0).max(10_000).default(32),
    queue: queueSettings.prefault({}),
    /** Retries of Dispatch; those of the gateway's requests are its own. */
    retry: retrySettings.prefault({}),
    breaker: breakerSettings.prefault({}),
  })
  .prefault({});

export type SchedulerSettings = z.output<typeof schedulerSettings>;
export type BreakerPolicy = SchedulerSettings["breaker"];
