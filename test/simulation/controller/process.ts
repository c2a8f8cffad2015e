// A controller's process that can be stopped in its tracks: its timers do not fire, it sends nothing, and it hears no answer until it goes on.
import type { Clock } from "../../../services/kit/clock.ts";

export class SimulatedProcess {
  readonly clock: Clock;
  #stopped: PromiseWithResolvers<void> | undefined;
  /** Whether it may act in an epoch that is over, and be refused: it was stopped in its tracks, or its lock went with the store. */
  mayBeStale = false;

  constructor(clock: Clock) {
    const after = (ms: number, callback: () => void): Disposable => {
      let disposed = false;
      const fire = () => {
        if (!disposed) callback();
      };
      // Wall time is in whole milliseconds.
      const timer = clock.after(Math.ceil(ms), () => {
        if (this.#stopped) void this.#stopped.promise.then(fire);
        else fire();
      });
      return {
        [Symbol.dispose]() {
          disposed = true;
          timer[Symbol.dispose]();
        },
      };
    };
    this.clock = {
      now: () => clock.now(),
      monotonic: () => clock.monotonic(),
      after,
      sleep: (ms, signal) =>
        new Promise((resolve, reject) => {
          if (signal?.aborted) return reject(signal.reason as Error);
          const abort = () => {
            timer[Symbol.dispose]();
            reject(signal?.reason as Error);
          };
          const timer = after(ms, () => {
            signal?.removeEventListener("abort", abort);
            resolve();
          });
          signal?.addEventListener("abort", abort, { once: true });
        }),
    };
  }

  get frozen(): boolean {
    return this.#stopped !== undefined;
  }

  freeze(): void {
    this.mayBeStale = true;
    this.#stopped ??= Promise.withResolvers<void>();
  }

  thaw(): void {
    this.#stopped?.resolve();
    this.#stopped = undefined;
  }

  /** A call to the outside. */
  async call<Result>(task: () => Promise<Result>): Promise<Result> {
    await this.#stopped?.promise;
    try {
      return await task();
    } finally {
      await this.#stopped?.promise;
    }
  }
}
