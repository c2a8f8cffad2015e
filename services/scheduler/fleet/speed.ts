// How fast the accounts of a model answer, beside each other: the time to the first content, smoothed on a logarithmic scale, so that one account's
// outliers do not move its peers' mean. An account's speed is measured against the mean of the others.
import type { Speed } from "./candidate.ts";

export interface SpeedPolicy {
  /** So many times slower than its peers is slow. */
  readonly slow_ratio: number;
  /** Fewer calls say nothing. */
  readonly slow_calls_min: number;
  /** A slow account that took no call for so long, in ms, counts as any other, and shows itself again. */
  readonly slow_memory: number;
}

interface Sample {
  log: number;
  calls: number;
  at: number;
}

/** The weight of a new call against what was known. */
const smoothing = 0.3;
const usual: Speed = { firstContentMs: undefined, weight: 1 };

export interface Speeds {
  /** An account's call had its first content after `ms`. */
  told(accountId: string, ms: number, now: number): void;
  of(accountId: string): Speed;
  forget(accountId: string): void;
  /** Forgets slow accounts that took no call for long; their ids. */
  expire(now: number): string[];
}

export function createSpeeds(policy: SpeedPolicy): Speeds {
  const samples = new Map<string, Sample>();
  const slow = new Map<string, Speed>();
  let sum = 0;
  const forget = (accountId: string) => {
    sum -= samples.get(accountId)?.log ?? 0;
    samples.delete(accountId);
    slow.delete(accountId);
  };
  return {
    told(accountId, ms, now) {
      const log = Math.log(Math.max(1, ms));
      const known = samples.get(accountId);
      const sample = known ?? { log, calls: 0, at: now };
      if (known) {
        sum -= known.log;
        sample.log += smoothing * (log - sample.log);
      } else samples.set(accountId, sample);
      sum += sample.log;
      sample.calls += 1;
      sample.at = now;
      const peers = samples.size - 1;
      if (peers === 0 || sample.calls < policy.slow_calls_min) return;
      const ratio = Math.exp(sample.log - (sum - sample.log) / peers);
      if (ratio < policy.slow_ratio) slow.delete(accountId);
      else slow.set(accountId, { firstContentMs: Math.exp(sample.log), weight: 1 / ratio });
    },
    of(accountId) {
      const sample = samples.get(accountId);
      return slow.get(accountId) ?? (sample ? { firstContentMs: Math.exp(sample.log), weight: 1 } : usual);
    },
    forget,
    expire(now) {
      const due = [...slow.keys()].filter((id) => (samples.get(id)?.at ?? 0) + policy.slow_memory <= now);
      for (const id of due) forget(id);
      return due;
    },
  };
}
