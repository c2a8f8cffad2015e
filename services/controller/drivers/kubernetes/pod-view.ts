// The Pods of a system as they are: listed once, then followed by a watch from the list's version on. A watch that ends is resumed; one whose
// version the server has forgotten begins with another list.
import type { V1Pod } from "@kubernetes/client-node";
import type { Clock } from "../../../kit/clock.ts";
import type { Log } from "../../../kit/log.ts";
import { backoffMs, type Random } from "../../../kit/random.ts";
import { Gone, type KubernetesApi, type PodEvent } from "./api.ts";

export interface PodViewOptions {
  readonly api: KubernetesApi;
  readonly selector: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Told of all Pods whenever one has changed; `gone` was deleted. */
  readonly onChange: (pods: ReadonlyMap<string, V1Pod>, gone: V1Pod | undefined) => void;
}

export interface PodView extends AsyncDisposable {
  /** The Pods, while a watch is open; else waits for the next try to open one, and fails if that fails. */
  list(): Promise<readonly V1Pod[]>;
  /** A Pod that has just been made or found, which the watch may not have told of yet. */
  made(pod: V1Pod): void;
  /** A Pod that is known to be gone. */
  forget(pod: V1Pod): void;
}

const retryBaseMs = 100;
const retryMaxMs = 5_000;
/** A watch that lasted for so long ended as watches do. */
const stableMs = 5_000;

export function createPodView(options: PodViewOptions): PodView {
  const { api, selector, clock, log } = options;
  const ending = new AbortController();
  let pods = new Map<string, V1Pod>();
  /** What was made since the last list began, which the list may not have. */
  const fresh = new Map<string, V1Pod>();
  let version: string | undefined;
  let opened = newTry();

  async function relist(): Promise<void> {
    fresh.clear();
    const listed = await api.listPods(selector, ending.signal);
    pods = new Map([...fresh, ...listed.pods.map((pod) => [uidOf(pod), pod] as const)]);
    version = listed.resourceVersion;
    options.onChange(pods, undefined);
  }

  function apply({ type, pod }: PodEvent): void {
    version = pod.metadata?.resourceVersion ?? version;
    if (type === "BOOKMARK") return;
    fresh.delete(uidOf(pod));
    if (type === "DELETED") pods.delete(uidOf(pod));
    else pods.set(uidOf(pod), pod);
    options.onChange(pods, type === "DELETED" ? pod : undefined);
  }

  /** Until the watch ends. */
  async function follow(): Promise<void> {
    if (version === undefined) await relist();
    const onOpen = () => opened.resolve();
    await api.watchPods({ selector, resourceVersion: version ?? "", onOpen, onEvent: apply }, ending.signal);
  }

  async function run(): Promise<void> {
    let failures = 0;
    while (!ending.signal.aborted) {
      const begunAt = clock.monotonic();
      let failure: unknown;
      try {
        await follow();
      } catch (error) {
        if (ending.signal.aborted) break;
        failure = error;
        if (error instanceof Gone) version = undefined;
        log.warn({ err: error }, "the watch of the Pods broke; watching again");
      }
      if (failure) opened.reject(failure);
      else opened.resolve();
      opened = newTry();
      failures = clock.monotonic() - begunAt > stableMs ? 1 : failures + 1;
      await clock.sleep(backoffMs(failures, retryBaseMs, retryMaxMs, options.random), ending.signal).catch(() => {
        // Only the end interrupts it, and the loop looks for that.
      });
    }
    opened.reject(ending.signal.reason);
  }

  const running = run();
  return {
    async list() {
      await opened.promise;
      return [...pods.values()];
    },
    made(pod) {
      const uid = uidOf(pod);
      fresh.set(uid, pod);
      if (pods.has(uid)) return;
      pods.set(uid, pod);
      options.onChange(pods, undefined);
    },
    forget(pod) {
      fresh.delete(uidOf(pod));
      if (pods.delete(uidOf(pod))) options.onChange(pods, pod);
    },
    async [Symbol.asyncDispose]() {
      ending.abort();
      await running;
    },
  };
}

function newTry(): PromiseWithResolvers<void> {
  const next = Promise.withResolvers<void>();
  next.promise.catch(() => {
    // Nobody may be waiting for it; the loop has logged it.
  });
  return next;
}

function uidOf({ metadata }: V1Pod): string {
  return metadata?.uid ?? "";
}
