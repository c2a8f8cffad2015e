// The calls that the driver makes to the API server of a cluster: for Pods and one ConfigMap of one namespace. Calls that fail in passing are
// repeated; what the server refuses becomes an error with a reason.
import {
  ApiException,
  type ConfigurationOptions,
  CoreV1Api,
  type KubeConfig,
  Observable,
  type V1ConfigMap,
  type V1Pod,
  Watch,
} from "@kubernetes/client-node";
import type { Clock } from "../../../kit/clock.ts";
import { DrawbridgeError } from "../../../kit/errors.ts";
import { backoffMs, type Random } from "../../../kit/random.ts";

/** What the controller's service account must be allowed: every call below, and no more. The Role in deploy/kubernetes is held to it. */
export const permissions = {
  pods: ["create", "delete", "get", "list", "watch"],
  configmaps: ["create", "get", "update"],
} as const;

export interface KubernetesApiOptions {
  readonly config: KubeConfig;
  readonly namespace: string;
  readonly clock: Clock;
  readonly random: Random;
}

/** A change that a watch tells of. A bookmark's Pod has nothing but a version. */
export interface PodEvent {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK";
  readonly pod: V1Pod;
}

export interface PodWatch {
  readonly selector: string;
  readonly resourceVersion: string;
  readonly onOpen: () => void;
  readonly onEvent: (event: PodEvent) => void;
}

export interface KubernetesApi {
  /** undefined: there is none. */
  readPod(name: string, signal: AbortSignal): Promise<V1Pod | undefined>;
  /** undefined: the name is taken. */
  createPod(pod: V1Pod, signal: AbortSignal): Promise<V1Pod | undefined>;
  /** Deletes this very Pod, not another one of its name; no error if it is not there any more. */
  deletePod(pod: V1Pod, graceSeconds: number, signal: AbortSignal): Promise<void>;
  listPods(
    selector: string,
    signal: AbortSignal,
  ): Promise<{ readonly pods: V1Pod[]; readonly resourceVersion: string }>;
  /** Resolves when the server, or a silence, ends the watch. Rejects with a `Gone` when the version is too old. */
  watchPods(watch: PodWatch, signal: AbortSignal): Promise<void>;
  /** undefined: there is none. */
  readConfigMap(name: string, signal: AbortSignal): Promise<V1ConfigMap | undefined>;
  /** undefined: the name is taken. */
  createConfigMap(body: V1ConfigMap, signal: AbortSignal): Promise<V1ConfigMap | undefined>;
  /** Compares the version and sets. undefined: somebody else has changed or deleted it since. */
  replaceConfigMap(body: V1ConfigMap, signal: AbortSignal): Promise<V1ConfigMap | undefined>;
}

/** The server does not remember changes since the version that was asked for: list again. */
export class Gone extends Error {}

const callTimeoutMs = 15_000;
const triesMax = 5;
const retryBaseMs = 200;
const retryMaxMs = 5_000;
/** A server that wants a longer pause gets this one. */
const retryAfterMaxMs = 30_000;
/** Pods in one answer of a list. */
const pageSize = 500;

export function createKubernetesApi({ config, namespace, clock, random }: KubernetesApiOptions): KubernetesApi {
  const core = config.makeApiClient(CoreV1Api);

  /** Repeats a call that fails in passing. All our calls may be repeated: a Pod that was created all the same is found by its name. */
  async function call<T>(run: (options: ConfigurationOptions) => Promise<T>, signal: AbortSignal): Promise<T> {
    for (let failures = 1; ; failures++) {
      signal.throwIfAborted();
      try {
        return await run(abortedBy(AbortSignal.any([signal, AbortSignal.timeout(callTimeoutMs)])));
      } catch (error) {
        signal.throwIfAborted();
        if (failures >= triesMax || !passing(error)) throw error;
        await clock.sleep(retryAfterMs(error) ?? backoffMs(failures, retryBaseMs, retryMaxMs, random), signal);
      }
    }
  }

  /** The call's answer; undefined for the statuses that say "not so". */
  async function ask<T>(
    run: (options: ConfigurationOptions) => Promise<T>,
    signal: AbortSignal,
    ...notSo: readonly number[]
  ): Promise<T | undefined> {
    try {
      return await call(run, signal);
    } catch (error) {
      if (notSo.includes(statusOf(error) ?? 0)) return undefined;
      signal.throwIfAborted();
      throw failure(error);
    }
  }

  return {
    readPod: (name, signal) => ask((options) => core.readNamespacedPod({ namespace, name }, options), signal, 404),
    createPod: (body, signal) => ask((options) => core.createNamespacedPod({ namespace, body }, options), signal, 409),
    async deletePod({ metadata: { name = "", uid = "" } = {} }, gracePeriodSeconds, signal) {
      const body = { gracePeriodSeconds, preconditions: { uid } };
      await ask((options) => core.deleteNamespacedPod({ namespace, name, body }, options), signal, 404, 409);
    },
    async listPods(labelSelector, signal) {
      const pods: V1Pod[] = [];
      let next: string | undefined;
      for (;;) {
        const request = { namespace, labelSelector, limit: pageSize, ...(next ? { _continue: next } : {}) };
        const page = await call((options) => core.listNamespacedPod(request, options), signal).catch((error) => {
          if (statusOf(error) === 410) throw new Gone();
          throw failure(error);
        });
        pods.push(...page.items);
        next = page.metadata?._continue;
        if (!next) return { pods, resourceVersion: page.metadata?.resourceVersion ?? "" };
      }
    },
    watchPods: (watch, signal) => watchPods(config, namespace, watch, signal),
    readConfigMap: (name, signal) =>
      ask((options) => core.readNamespacedConfigMap({ namespace, name }, options), signal, 404),
    createConfigMap: (body, signal) =>
      ask((options) => core.createNamespacedConfigMap({ namespace, body }, options), signal, 409),
    replaceConfigMap: (body, signal) => {
      const name = body.metadata?.name ?? "";
      return ask((options) => core.replaceNamespacedConfigMap({ namespace, name, body }, options), signal, 404, 409);
    },
  };
}

async function watchPods(
  config: KubeConfig,
  namespace: string,
  { selector, resourceVersion, onOpen, onEvent }: PodWatch,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted();
  const { promise: over, resolve, reject } = Promise.withResolvers<void>();
  let isOver = false;
  const end = (error?: unknown) => {
    isOver = true;
    if (error) reject(error);
    else resolve();
  };
  const onAbort = () => end(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  // The client swallows what its listener throws.
  const listener = (type: string, object: unknown) => {
    try {
      if (type === "ERROR") throw watchFailure(object as { code?: number; message?: string });
      onEvent({ type: type as PodEvent["type"], pod: object as V1Pod });
    } catch (error) {
      end(error);
    }
  };
  // The client ends a watch that is silent for half a minute, so that a dead connection is found; the next one goes on from there.
  const done = (error: unknown) =>
    end(error && (error as Error).name !== "TimeoutError" ? watchFailure(error as { statusCode?: number }) : undefined);
  const query = { labelSelector: selector, resourceVersion, allowWatchBookmarks: true };
  const opening = new Watch(config).watch(`/api/v1/namespaces/${namespace}/pods`, query, listener, done);
  const closing = opening.then((connection) => {
    if (!isOver) onOpen();
    return over.finally(() => connection.abort());
  }, end);
  try {
    await over;
  } finally {
    signal.removeEventListener("abort", onAbort);
    closing.catch(() => {
      // What ended the watch is thrown above.
    });
  }
}

function watchFailure(error: { statusCode?: number; code?: number; message?: string }): unknown {
  if (error.statusCode === 410 || error.code === 410) return new Gone();
  return error instanceof Error ? error : new Error(error.message ?? "the watch failed");
}

/** The client has no option for a signal, but lets requests be changed. */
function abortedBy(signal: AbortSignal): ConfigurationOptions {
  return {
    middlewareMergeStrategy: "append",
    middleware: [
      {
        pre(request) {
          request.setSignal(signal);
          return new Observable(Promise.resolve(request));
        },
        post: (response) => new Observable(Promise.resolve(response)),
      },
    ],
  };
}

function statusOf(error: unknown): number | undefined {
  return error instanceof ApiException ? error.code : undefined;
}

/** Too many requests, the server's own trouble, or no answer (fetch fails with a TypeError, our own time-out with a TimeoutError). */
function passing(error: unknown): boolean {
  const status = statusOf(error);
  if (status !== undefined) return status === 429 || status >= 500;
  return error instanceof TypeError || (error instanceof Error && error.name === "TimeoutError");
}

function retryAfterMs(error: unknown): number | undefined {
  if (!(error instanceof ApiException)) return undefined;
  const seconds = Number((error.headers as Record<string, string>)["retry-after"]);
  return Number.isFinite(seconds) ? Math.min(retryAfterMaxMs, seconds * 1_000) : undefined;
}

function failure(error: unknown): DrawbridgeError {
  if (!(error instanceof ApiException)) {
    const cause = error instanceof Error ? error.message : String(error);
    const message = `The API server of the cluster cannot be asked: ${cause}. Look whether it runs and whether controller.kubernetes.kubeconfig names it.`;
    return new DrawbridgeError("INTERNAL", message, { cause: error });
  }
  const why = messageOf(error.body);
  if (error.code === 401 || error.code === 403) {
    const message = `The API server refuses the controller: ${why}. Look whether its service account has the Role in deploy/kubernetes/rbac.yaml, and whether a quota or a policy forbids it.`;
    return new DrawbridgeError("PERMISSION_DENIED", message, { cause: error });
  }
  const reason = error.code === 400 || error.code === 422 ? "INVALID_ARGUMENT" : "INTERNAL";
  return new DrawbridgeError(reason, `The API server says ${error.code}: ${why}`, { cause: error });
}

/** A failure's body is a Status in JSON, unless something between us and the server wrote it. */
function messageOf(body: unknown): string {
  try {
    const status = (typeof body === "string" ? JSON.parse(body) : body) as { message?: string } | undefined;
    return status?.message ?? "no reason given";
  } catch {
    return String(body).slice(0, 200);
  }
}
