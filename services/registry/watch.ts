// A watch of the directory: a snapshot, then differences, each with the revision that it brings the watcher to. Level-triggered: it compares
// what the watcher knows with what is there, so a lost hint or a slow watcher costs nothing but a later, larger difference.
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { WatchWorkersResponseSchema } from "#gen/drawbridge/v1/registry_service";
import type { Worker } from "#gen/drawbridge/v1/worker";
import type { DirectoryReader } from "./directory-reader.ts";

export interface WatchOptions {
  readonly reader: DirectoryReader;
  readonly signal: AbortSignal;
  readonly bookmarkMs: number;
}

type Element = MessageInitShape<typeof WatchWorkersResponseSchema>;

/** What it keeps of a watcher is one revision for each worker: a watcher that does not read gets no further looks. */
export async function* watchWorkers({
  reader,
  signal,
  bookmarkMs,
}: WatchOptions): AsyncGenerator<Element, void, undefined> {
  using watch = reader.watch();
  /** Worker id → the revision that the watcher has. */
  let known: ReadonlyMap<string, bigint> | undefined;
  let version = 0;
  while (!signal.aborted) {
    const look = await watch.after(version, bookmarkMs, signal);
    const revision = BigInt(look.revision);
    const elements = known ? differences(known, look.workers) : [snapshotOf(look.workers)];
    for (const element of elements) yield { element, revision };
    if (elements.length === 0) yield { element: { case: "bookmark", value: {} }, revision };
    known = new Map(look.workers.map((worker) => [worker.id, worker.revision]));
    ({ version } = look);
  }
}

function snapshotOf(workers: readonly Worker[]): Element["element"] {
  return { case: "snapshot", value: { workers: [...workers] } };
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
