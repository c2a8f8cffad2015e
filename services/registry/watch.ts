// A watch of the directory: a snapshot, then differences, each with the revision that it brings the watcher to. Level-triggered: it compares
// what the watcher knows with what is there, so a lost hint or a slow watcher costs nothing but a later, larger difference.
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { WatchWorkersResponseSchema } from "#gen/drawbridge/v1/registry_service";
import type { Worker } from "#gen/drawbridge/v1/worker";
import type { Clock } from "../kit/clock.ts";
import type { WorkerDirectory } from "../state/state.ts";

export interface WatchOptions {
  readonly directory: WorkerDirectory;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** A death makes no hint; the directory is read again at least so often, in ms. */
  readonly rereadMs: number;
  readonly bookmarkMs: number;
}

type Element = MessageInitShape<typeof WatchWorkersResponseSchema>;

export async function* watchWorkers(options: WatchOptions): AsyncGenerator<Element, void, undefined> {
  const { directory, clock, signal } = options;
  using changes = createWakeUp(directory, clock);
  /** Worker id → the revision that the watcher has. */
  let known: ReadonlyMap<string, bigint> | undefined;
  let saidAt = clock.monotonic();
  while (!signal.aborted) {
    changes.clear();
    const { workers, revision } = await directory.list(clock.now());
    const elements = known ? differences(known, workers) : [snapshotOf(workers)];
    for (const element of elements) yield { element, revision: BigInt(revision) };
    if (elements.length > 0) saidAt = clock.monotonic();
    else if (clock.monotonic() - saidAt >= options.bookmarkMs) {
      saidAt = clock.monotonic();
      yield { element: { case: "bookmark", value: {} }, revision: BigInt(revision) };
    }
    known = new Map(workers.map((worker) => [worker.id, worker.revision]));
    await changes.wait(options.rereadMs, signal);
  }
}

function snapshotOf(workers: Worker[]): Element["element"] {
  return { case: "snapshot", value: { workers } };
}

/** What brings somebody who knows these revisions to the present. */
function differences(known: ReadonlyMap<string, bigint>, workers: readonly Worker[]): Element["element"][] {
  const present = new Set(workers.map((worker) => worker.id));
  const gone = [...known.keys()].filter((id) => !present.has(id));
  const changed = workers.filter((worker) => known.get(worker.id) !== worker.revision);
  return [
    ...gone.map((value) => ({ case: "removedWorkerId", value }) as const),
    ...changed.map((value) => ({ case: "put", value }) as const),
  ];
}

/** Waits for a hint, or for time to pass. A hint that came since `clear` is not missed. */
function createWakeUp(directory: WorkerDirectory, clock: Clock) {
  let hinted = Promise.withResolvers<void>();
  const subscription = directory.onChange(() => hinted.resolve());
  return {
    clear() {
      hinted = Promise.withResolvers();
    },
    async wait(ms: number, signal: AbortSignal): Promise<void> {
      using _timer = clock.after(ms, hinted.resolve);
      const abort = () => hinted.resolve();
      signal.addEventListener("abort", abort, { once: true });
      if (signal.aborted) abort();
      await hinted.promise;
      signal.removeEventListener("abort", abort);
    },
    [Symbol.dispose]: () => subscription[Symbol.dispose](),
  };
}
