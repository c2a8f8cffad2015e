// A clock whose time is that of the next event: fast, and the same for the same events.
import type { Clock } from "../../../services/kit/clock.ts";

interface Timer {
  readonly at: number;
  readonly order: number;
  fire: (() => void) | undefined;
}

export class EventClock implements Clock {
  #now = Date.UTC(2026, 0, 1);
  readonly #start = this.#now;
  #order = 0;
  /** A heap by time, and by order among equals. */
  readonly #timers: Timer[] = [];

  /** Whole milliseconds, as the store takes them. */
  now(): number {
    return this.#now;
  }

  monotonic(): number {
    return this.#now - this.#start;
  }

  after(ms: number, callback: () => void): Disposable {
    const timer: Timer = { at: Math.ceil(this.#now + Math.max(0, ms)), order: this.#order++, fire: callback };
    this.#push(timer);
    return { [Symbol.dispose]: () => void (timer.fire = undefined) };
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    if (signal?.aborted) {
      reject(signal.reason);
      return promise;
    }
    const abort = () => {
      timer[Symbol.dispose]();
      reject(signal?.reason);
    };
    const timer = this.after(ms, () => {
      signal?.removeEventListener("abort", abort);
      resolve();
    });
    signal?.addEventListener("abort", abort, { once: true });
    return promise;
  }

  /** Lets `ms` pass. What an event starts runs to where it waits for time before the next event. */
  async run(ms: number): Promise<void> {
    const target = this.#now + ms;
    await ran();
    for (let next = this.#timers[0]; next && next.at <= target; next = this.#timers[0]) {
      this.#pop();
      if (!next.fire) continue;
      this.#now = next.at;
      next.fire();
      await ran();
    }
    this.#now = target;
  }

  #push(timer: Timer): void {
    const timers = this.#timers;
    let place = timers.push(timer) - 1;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (!before(timer, timers[parent] as Timer)) break;
      timers[place] = timers[parent] as Timer;
      place = parent;
    }
    timers[place] = timer;
  }

  #pop(): void {
    const timers = this.#timers;
    const last = timers.pop() as Timer;
    if (timers.length === 0) return;
    let place = 0;
    for (;;) {
      let child = 2 * place + 1;
      if (child >= timers.length) break;
      if (child + 1 < timers.length && before(timers[child + 1] as Timer, timers[child] as Timer)) child += 1;
      if (!before(timers[child] as Timer, last)) break;
      timers[place] = timers[child] as Timer;
      place = child;
    }
    timers[place] = last;
  }
}

function before(a: Timer, b: Timer): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

/** All promise callbacks have run: nothing here waits for anything but time. */
function ran(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
