// One reader of the worker directory for all watches of a registry: a change costs one read of the store, however many watch.
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { Worker } from "#gen/drawbridge/v1/worker";
import type { Clock } from "../kit/clock.ts";
import type { Log } from "../kit/log.ts";
import type { WorkerDirectory } from "../state/state.ts";

/** What the directory held at a moment. */
export interface Look {
  /** Grows when a worker is new, changed or gone since the last look. */
  readonly version: number;
  readonly workers: readonly Worker[];
  readonly revision: number;
}

export interface DirectoryWatch extends Disposable {
  /**
   * A look that is newer than `version`, as soon as there is one; after `waitMs` the newest, whatever it is. Rejects with the signal's reason, and
   * once the directory could not be read since the watch began.
   */
  after(version: number, waitMs: number, signal: AbortSignal): Promise<Look>;
}

export interface DirectoryReader {
  /** It reads as long as there are watches. */
  watch(): DirectoryWatch;
}

export interface DirectoryReaderOptions {
  readonly directory: WorkerDirectory;
  readonly clock: Clock;
  readonly log: Log;
  /** The directory is read again at least so often, in ms; and when a lease ends, since a death makes no hint. */
  readonly rereadMs: number;
  /** Aborted when the reader has to end. */
  readonly ending: AbortSignal;
}

/** Hints that come faster than this share a read. */
const gapMs = 10;

export function createDirectoryReader(options: DirectoryReaderOptions): DirectoryReader {
  const { directory, clock, log, rereadMs, ending } = options;
  const waiting = new Set<{ readonly resolve: () => void; readonly reject: (error: unknown) => void }>();
  let watches = 0;
  let look: Look | undefined;
  let version = 0;
  let wakeUp = Promise.withResolvers<void>();
  let running = false;
  let failure: { readonly number: number; readonly error: unknown } | undefined;

  async function read(): Promise<void> {
    try {
      const { workers, revision } = await directory.list(clock.now());
      const changed = !look || differs(look.workers, workers);
      if (changed) version += 1;
      look = { version, workers, revision };
      if (changed) for (const { resolve } of waiting) resolve();
    } catch (error) {
      // Every watch ends: whoever watches knows then that nothing is known, and begins anew with caution. If watches went on, the leases that
      // nobody could renew meanwhile would look like deaths.
      log.warn({ err: error }, "the worker directory could not be read; its watches end");
      look = undefined;
      failure = { number: (failure?.number ?? 0) + 1, error };
      for (const { reject } of waiting) reject(error);
    }
  }

  async function keepReading(): Promise<void> {
    using _subscription = directory.onChange(() => wakeUp.resolve());
    while (watches > 0 && !ending.aborted) {
      wakeUp = Promise.withResolvers();
      const readAt = clock.monotonic();
      await read();
      using _reread = clock.after(nextReadMs(), wakeUp.resolve);
      await wakeUp.promise;
      const restMs = readAt + gapMs - clock.monotonic();
      if (restMs > 0) await clock.sleep(restMs, ending).catch(() => {});
    }
  }

  /** Until the first of the known leases ends, or less: whoever lives has it renewed long before. */
  function nextReadMs(): number {
    const ends = look?.workers.map(({ expiresAt }) => (expiresAt ? timestampMs(expiresAt) : Infinity)) ?? [];
    const restMs = ends.reduce((first, end) => Math.min(first, end), Infinity) - clock.now();
    return Math.max(0, Math.min(rereadMs, restMs));
  }

  function begin(): void {
    if (running) return;
    running = true;
    // What was seen while others watched is old.
    look = undefined;
    void keepReading().finally(() => {
      running = false;
      if (watches > 0 && !ending.aborted) begin();
    });
  }

  ending.addEventListener("abort", () => wakeUp.resolve(), { once: true });
  return {
    watch() {
      watches += 1;
      begin();
      let held = true;
      const begunAt = failure?.number;
      return {
        async after(seen, waitMs, signal) {
          if (failure && failure.number !== begunAt) throw failure.error;
          if (!look || look.version <= seen) await news(waitMs, signal);
          // Time may have passed before the first look is there.
          while (!look) await news(waitMs, signal);
          return look;
        },
        [Symbol.dispose]() {
          if (held) watches -= 1;
          held = false;
          if (watches === 0) wakeUp.resolve();
        },
      };
    },
  };

  /** Resolves with the next look that is different, or after the time. */
  async function news(waitMs: number, signal: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter = { resolve, reject };
    const abort = () => reject(signal.reason);
    waiting.add(waiter);
    signal.addEventListener("abort", abort, { once: true });
    using _timer = clock.after(waitMs, resolve);
    try {
      signal.throwIfAborted();
      await promise;
    } finally {
      waiting.delete(waiter);
      signal.removeEventListener("abort", abort);
    }
  }
}

function differs(before: readonly Worker[], now: readonly Worker[]): boolean {
  // Both are by id.
  return (
    before.length !== now.length ||
    before.some((worker, index) => worker.id !== now[index]?.id || worker.revision !== now[index].revision)
  );
}
