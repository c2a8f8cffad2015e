// Time, passed in: decisions never read the wall clock themselves, so that tests run them under a virtual one.
import { setTimeout as delay } from "node:timers/promises";

export interface Clock {
  /** Wall time, in milliseconds since 1970. What is stored and shown. */
  now(): number;
  /** Milliseconds that only grow, for measuring spans. */
  monotonic(): number;
  /** Resolves after `ms`; rejects with the signal's reason when it is aborted first. The timer keeps no process alive. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Calls `callback` once after `ms`, unless the result is disposed first. The timer keeps no process alive. */
  after(ms: number, callback: () => void): Disposable;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: (ms, signal) => delay(ms, undefined, { ref: false, ...(signal ? { signal } : {}) }),
  after(ms, callback) {
    const timer = setTimeout(callback, ms);
    timer.unref();
    return { [Symbol.dispose]: () => clearTimeout(timer) };
  },
};
