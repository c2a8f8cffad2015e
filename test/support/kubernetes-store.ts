// Objects of a cluster as its API server keeps them: each write gets the next version, lists have one, and watches begin after one. Old versions can
// be forgotten.
import { randomUUID } from "node:crypto";
import type { V1ConfigMap, V1ObjectMeta, V1Pod } from "@kubernetes/client-node";

export type Kind = "pods" | "configmaps";
type Json<T> = { [K in keyof T]: T[K] extends Date | undefined ? string | undefined : T[K] };
export type Stored<T = V1Pod & V1ConfigMap> = Omit<T, "metadata"> & {
  metadata: Json<V1ObjectMeta> & { name: string; uid: string };
};

/** What is to be created. */
type Unstored = Omit<Stored, "metadata"> & { metadata?: Partial<Stored["metadata"]> };

export interface Change {
  readonly version: number;
  readonly kind: Kind;
  readonly type: "ADDED" | "MODIFIED" | "DELETED";
  readonly object: Stored;
}

export class Refusal extends Error {
  readonly status: number;
  readonly reason: string;
  constructor(status: number, reason: string, message: string) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

export type ObjectStore = ReturnType<typeof createObjectStore>;

export function createObjectStore(namespace: string) {
  const objects: Record<Kind, Map<string, Stored>> = { pods: new Map(), configmaps: new Map() };
  const listeners = new Set<(change: Change) => void>();
  let history: Change[] = [];
  let version = 100;
  let oldest = version;

  function write(kind: Kind, type: Change["type"], changed: Stored): Stored {
    version += 1;
    const object = structuredClone({ ...changed, metadata: { ...changed.metadata, resourceVersion: String(version) } });
    if (type === "DELETED") objects[kind].delete(object.metadata.name);
    else objects[kind].set(object.metadata.name, object);
    const change = { version, kind, type, object };
    history.push(change);
    for (const listener of listeners) listener(change);
    return object;
  }

  const store = {
    version: () => version,
    list: (kind: Kind) => [...objects[kind].values()].toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1)),
    find: (kind: Kind, name: string) => objects[kind].get(name),
    get(kind: Kind, name: string): Stored {
      const found = objects[kind].get(name);
      if (!found) throw new Refusal(404, "NotFound", `${kind} "${name}" not found`);
      return found;
    },
    create(kind: Kind, object: Unstored): Stored {
      const name = object.metadata?.name ?? "";
      if (objects[kind].has(name)) throw new Refusal(409, "AlreadyExists", `${kind} "${name}" already exists`);
      const creationTimestamp = `${new Date().toISOString().slice(0, 19)}Z`;
      const metadata = { ...object.metadata, name, namespace, uid: randomUUID(), creationTimestamp };
      return write(kind, "ADDED", { ...object, metadata });
    },
    /** With a version: only if it is the present one. */
    update(kind: Kind, object: Stored, expected?: string): Stored {
      const present = store.get(kind, object.metadata.name);
      if (expected !== undefined && expected !== present.metadata.resourceVersion) {
        throw new Refusal(
          409,
          "Conflict",
          "the object has been modified; please apply your changes to the latest version",
        );
      }
      const { uid, creationTimestamp } = present.metadata;
      return write(kind, "MODIFIED", { ...object, metadata: { ...object.metadata, uid, creationTimestamp } });
    },
    /** And what it owns. */
    remove(kind: Kind, name: string): Stored {
      const removed = write(kind, "DELETED", store.get(kind, name));
      for (const pod of store.list("pods")) {
        if (pod.metadata.ownerReferences?.some(({ uid }) => uid === removed.metadata.uid))
          store.remove("pods", pod.metadata.name);
      }
      return removed;
    },
    /** Changes after a version; 410 if they are forgotten. */
    since(after: number): readonly Change[] {
      if (after < oldest) throw new Refusal(410, "Expired", `too old resource version: ${after} (${oldest})`);
      return history.filter((change) => change.version > after);
    },
    forgetHistory() {
      history = [];
      oldest = ++version;
    },
    onChange(listener: (change: Change) => void): Disposable {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
  };
  return store;
}
