// Who is alive: a key for each worker, which the server itself lets go when its lease ends, and an index of those that were entered.
import { createHash } from "node:crypto";
import { clone } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Worker, WorkerSchema } from "#gen/drawbridge/v1/worker";
import { checkId } from "../checks.ts";
import { compareBytes } from "../paging.ts";
import { decodeValue, encode } from "../records.ts";
import type { WorkerDirectory } from "../state.ts";
import type { Argument, Command } from "./connection.ts";
import type { ObservedContext } from "./context.ts";
import { fields, text, texts } from "./replies.ts";

/** What a worker's key holds. */
interface Pod {
  readonly registeredAt: number;
  readonly expiresAt: number;
  readonly revision: number;
  readonly worker: unknown;
}

/** What the index says of a worker: enough to take it out when its own key is gone. */
interface IndexEntry {
  readonly incarnation: string;
  readonly models: readonly string[];
  /** The end of the lease that it was entered with: nobody takes it for dead before. */
  readonly until: number;
  readonly revision: number;
}

export function createWorkerDirectory(context: ObservedContext): WorkerDirectory {
  const { connection, keys, changes } = context;
  const index = createPodIndex(context);
  const decodePods = createPodDecoder();

  return {
    onChange: changes.onChange,

    async put(worker, ttlMs, now) {
      checkId("The worker's id", worker.id);
      const revision = await index.enter(worker, now + ttlMs);
      const args = [worker.incarnation, now, now + ttlMs, ttlMs, revision, ...recordOf(worker)];
      const [registeredAt, before] = texts(await connection.script("put-pod", [keys.pod(worker.id)], args));
      await index.entered(worker.id, modelsOf(before), modelsOfWorker(worker));
      const expiresAt = now + ttlMs;
      return workerOf({ registeredAt: Number(registeredAt), expiresAt, revision, worker: stripped(worker) });
    },

    async beat(worker, ttlMs, now) {
      const record = recordOf(worker);
      const attempt = async (revision: number | "") => {
        const args: Argument[] = [worker.incarnation, now, now + ttlMs, ttlMs, revision, ...record];
        return texts(await connection.script("beat-pod", [keys.pod(worker.id)], args));
      };
      const [verdict] = await attempt("");
      if (verdict !== "differs") return verdict === "same";
      const revision = await index.enter(worker, now + ttlMs);
      const [second, before] = await attempt(revision);
      if (second === "changed") await index.changed(worker.id, modelsOf(before), modelsOfWorker(worker));
      return second !== "lost";
    },

    async remove(workerId, incarnation, _now) {
      const entry = await index.entry(workerId);
      if (text(await connection.script("remove-pod", [keys.pod(workerId)], [incarnation])) !== "1") return false;
      if (entry && (JSON.parse(entry) as IndexEntry).incarnation === incarnation) await index.leave(workerId, entry);
      return true;
    },

    async list(now) {
      // The revision first: a change that comes in between is then listed with a revision that is too small, and heard of again.
      const { revision, ids } = await index.list();
      const sorted = ids.toSorted(compareBytes);
      const pods = await connection.values(sorted.map(keys.pod));
      const workers = decodePods(sorted, pods)
        .filter(({ expiresAt }) => expiresAt > now)
        .map(({ worker }) => worker);
      const newest = workers.reduce((most, each) => Math.max(most, Number(each.revision)), revision);
      return { workers, revision: newest };
    },

    async prune(now) {
      const entries = fields(await connection.command("HGETALL", keys.podIndex));
      const pruned: string[] = [];
      for (const [id, entry] of entries) {
        if ((JSON.parse(entry) as IndexEntry).until > now) continue;
        if (text(await connection.script("expire-pod", [keys.pod(id)], [now])) !== "1") continue;
        if (await index.leave(id, entry)) pruned.push(id);
      }
      return pruned.toSorted(compareBytes);
    },
  };
}

/** The index of workers, the sets of those that serve a model, and the directory's revision. */
function createPodIndex({ connection, keys, changes }: ObservedContext) {
  const indexKeys = [keys.podIndex, keys.podRevision];
  const add = (id: string, models: readonly string[]) =>
    models.map((model): Command => ["SADD", keys.modelPods(model), id]);
  const leaveAll = (id: string, models: readonly string[]) =>
    models.map((model): Command => ["SREM", keys.modelPods(model), id]);
  /** After what has changed can be seen, so that whoever reads a revision has seen what came before it. */
  const tell = async (commands: readonly Command[]) => {
    await connection.together([...commands, ["INCR", keys.podRevision]]);
    changes.notify();
  };
  return {
    entry: async (id: string) => text(await connection.command("HGET", keys.podIndex, id)),

    async list(): Promise<{ readonly revision: number; readonly ids: string[] }> {
      const [revision, ids] = (await connection.script("list-pods", indexKeys, [])) as [unknown, unknown];
      return { revision: Number(revision), ids: texts(ids).map((id) => id ?? "") };
    },

    /** Before the worker's own key, so that none is alive and not listed. What comes out is its revision. */
    async enter(worker: Worker, until: number): Promise<number> {
      const args = [worker.id, worker.incarnation, JSON.stringify(modelsOfWorker(worker)), until];
      return Number(await connection.script("enter-pod", indexKeys, args));
    },

    /** Whoever registers stands in the sets of all its models afterwards, whatever was cut short before. */
    async entered(id: string, before: readonly string[], now: readonly string[]): Promise<void> {
      await tell([...add(id, now), ...leaveAll(id, without(before, now))]);
    },

    async changed(id: string, before: readonly string[], now: readonly string[]): Promise<void> {
      await tell([...add(id, without(now, before)), ...leaveAll(id, without(before, now))]);
    },

    /** Takes a worker out, unless it was entered again since `entry` was read. */
    async leave(id: string, entry: string): Promise<boolean> {
      if (text(await connection.script("unlist-pod", [keys.podIndex], [id, entry])) !== "1") return false;
      const { models } = JSON.parse(entry) as IndexEntry;
      await tell(leaveAll(id, models));
      return true;
    },
  };
}

interface DecodedPod {
  readonly text: string;
  readonly expiresAt: number;
  readonly worker: Worker;
}

/** Decodes what workers' keys hold. What is the same as last time is the same object: of many workers few change between two readings. */
function createPodDecoder() {
  let known: ReadonlyMap<string, DecodedPod> = new Map();
  const decodePod = (text: string): DecodedPod => {
    const pod = JSON.parse(text) as Pod;
    return { text, expiresAt: pod.expiresAt, worker: workerOf(pod) };
  };
  return (ids: readonly string[], texts: readonly (string | undefined)[]): DecodedPod[] => {
    const decoded = new Map<string, DecodedPod>();
    for (const [index, id] of ids.entries()) {
      const text = texts[index];
      if (text === undefined) continue;
      const before = known.get(id);
      decoded.set(id, before?.text === text ? before : decodePod(text));
    }
    known = decoded;
    return [...decoded.values()];
  };
}

/** The worker without what the directory adds. */
function stripped(worker: Worker): Worker {
  const stored = clone(WorkerSchema, worker);
  stored.revision = 0n;
  stored.registeredAt = undefined;
  stored.expiresAt = undefined;
  return stored;
}

function recordOf(worker: Worker): [digest: string, record: string] {
  const record = encode(WorkerSchema, stripped(worker));
  return [createHash("sha1").update(record).digest("hex"), record];
}

function modelsOfWorker(worker: Worker): string[] {
  return [...new Set(worker.pools.flatMap(({ models }) => models))].filter((model) => model !== "");
}

function without(models: readonly string[], others: readonly string[]): string[] {
  const known = new Set(others);
  return models.filter((model) => !known.has(model));
}

/** The models of a worker's stored record; "" for none. */
function modelsOf(pod: string | undefined): string[] {
  return pod ? modelsOfWorker(decodeValue(WorkerSchema, (JSON.parse(pod) as Pod).worker)) : [];
}

function workerOf(pod: Omit<Pod, "worker"> & { readonly worker: unknown }): Worker {
  const worker = isWorker(pod.worker) ? pod.worker : decodeValue(WorkerSchema, pod.worker);
  worker.revision = BigInt(pod.revision);
  worker.registeredAt = timestampFromMs(pod.registeredAt);
  worker.expiresAt = timestampFromMs(pod.expiresAt);
  return worker;
}

function isWorker(value: unknown): value is Worker {
  return (value as Partial<Worker>).$typeName === WorkerSchema.typeName;
}
