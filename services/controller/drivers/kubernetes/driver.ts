// The kubernetes driver: workers are Pods. They outlive the controller: whoever leads next finds them by their labels. One Pod is one run of a worker,
// and is never restarted by the cluster.
import { setMaxListeners } from "node:events";
import type { KubeConfig, V1Pod } from "@kubernetes/client-node";
import type { WorkerSpec } from "#gen/drawbridge/v1/account";
import type { Clock } from "../../../kit/clock.ts";
import { DrawbridgeError } from "../../../kit/errors.ts";
import type { Log } from "../../../kit/log.ts";
import type { Random } from "../../../kit/random.ts";
import type { KubernetesSettings } from "../config.ts";
import type { WorkerDriver } from "../driver.ts";
import { createExits } from "../exits.ts";
import { createKubernetesApi } from "./api.ts";
import { createLeaderRecord } from "./leader-record.ts";
import { podName, workerLabels, workerSelector } from "./names.ts";
import { endingOf, isEnding, isRunning, obstacleOf, runOf, workerPod } from "./pod.ts";
import { createPodView } from "./pod-view.ts";

export interface KubernetesDriverOptions {
  readonly config: KubeConfig;
  readonly namespace: string;
  readonly settings: KubernetesSettings;
  readonly registryUrl: () => string;
  /** Time for prompts in flight of a Pod that somebody else deletes, in ms. */
  readonly drainGraceMs: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Time between SIGTERM and SIGKILL of a worker that is destroyed, in ms. Default 3 s. */
  readonly terminateMs?: number;
  /** A Pod that is still there so long after its SIGKILL has lost its node, and is deleted without it, in ms. Default 30 s. */
  readonly lostNodeMs?: number;
}

const lookAgainMs = 250;

export function createKubernetesDriver(options: KubernetesDriverOptions): WorkerDriver {
  const { settings, clock, log } = options;
  const { system } = settings;
  const terminateSeconds = Math.ceil((options.terminateMs ?? 3_000) / 1_000);
  const lostAfterMs = terminateSeconds * 1_000 + (options.lostNodeMs ?? 30_000);
  const ending = new AbortController();
  setMaxListeners(0, ending.signal);
  const api = createKubernetesApi(options);
  const leader = createLeaderRecord(api, system);
  const exits = createExits();
  const view = createPodView({
    ...options,
    api,
    selector: workerSelector(system),
    onChange(pods, gone) {
      const runs = [...pods.values()].filter(isRunning).flatMap((pod) => runOf(pod, log) ?? []);
      exits.look(runs, ({ runId }) => endingOf(pods.get(runId) ?? (gone?.metadata?.uid === runId ? gone : undefined)));
    },
  });

  /** The worker's Pod; ALREADY_EXISTS if the name belongs to something else. */
  async function find(workerId: string, signal: AbortSignal): Promise<V1Pod | undefined> {
    const name = podName(system, workerId);
    const pod = await api.readPod(name, signal);
    if (!pod) return undefined;
    const labels = pod.metadata?.labels ?? {};
    if (Object.entries(workerLabels(system)).every(([key, value]) => labels[key] === value)) return pod;
    const message = `The Pod ${name} is no worker of this system. Delete it, or give controller.kubernetes.system another name.`;
    throw new DrawbridgeError("ALREADY_EXISTS", message);
  }

  /** Resolves when the Pod is gone. */
  async function remove(pod: V1Pod, workerId: string, graceSeconds: number, signal: AbortSignal): Promise<void> {
    await api.deletePod(pod, graceSeconds, signal);
    const lostAt = clock.monotonic() + lostAfterMs;
    for (let forced = false; ; ) {
      const present = await api.readPod(podName(system, workerId), signal);
      if (present?.metadata?.uid !== pod.metadata?.uid) return view.forget(pod);
      if (!forced && clock.monotonic() > lostAt) {
        log.warn(
          { worker: workerId, node: present?.spec?.nodeName },
          "the node does not end a Pod; deleting it without",
        );
        await api.deletePod(pod, 0, signal);
        forced = true;
      }
      await clock.sleep(lookAgainMs, signal);
    }
  }

  async function start(spec: WorkerSpec, epoch: number, signal: AbortSignal): Promise<void> {
    const owner = await leader.claim(epoch, signal);
    const pod = workerPod(spec, epoch, owner, { ...options, registryUrl: options.registryUrl() });
    for (;;) {
      const made = await api.createPod(pod, signal);
      if (made) return await keep(made, spec.workerId, epoch, signal);
      const present = await find(spec.workerId, signal);
      if (!present) {
        // It went meanwhile, or a quota was being counted.
        await clock.sleep(lookAgainMs, signal);
        continue;
      }
      if (!isRunning(present)) {
        await remove(present, spec.workerId, 0, signal);
        continue;
      }
      if (isEnding(present)) {
        const message = `The Pod of worker ${spec.workerId} is being deleted and still runs. It can start again when that is over.`;
        throw new DrawbridgeError("DRAINING", message);
      }
      return view.made(present);
    }
  }

  /** Between the claim and the creation another leader may have begun. */
  async function keep(made: V1Pod, workerId: string, epoch: number, signal: AbortSignal): Promise<void> {
    try {
      await leader.claim(epoch, signal);
    } catch (error) {
      await api.deletePod(made, 0, ending.signal);
      throw error;
    }
    view.made(made);
    log.info({ worker: workerId, pod: made.metadata?.name }, "worker started");
  }

  return {
    async claim(epoch, signal) {
      await leader.claim(epoch, AbortSignal.any([signal, ending.signal]));
    },
    create: (spec, epoch, signal) => start(spec, epoch, AbortSignal.any([signal, ending.signal])),
    async destroy(workerId, epoch) {
      await leader.claim(epoch, ending.signal);
      const present = await find(workerId, ending.signal);
      if (!present) {
        const ghost = (await view.list()).find(({ metadata }) => metadata?.name === podName(system, workerId));
        if (ghost) view.forget(ghost);
        return;
      }
      view.made(present);
      const obstacle = obstacleOf(present);
      if (obstacle) log.warn({ worker: workerId, pod: present.metadata?.name, obstacle }, "the Pod has never run");
      if (isRunning(present)) exits.request(present.metadata?.uid ?? "");
      await remove(present, workerId, terminateSeconds, ending.signal);
    },
    async list() {
      const runs = (await view.list()).filter(isRunning).flatMap((pod) => runOf(pod, log) ?? []);
      return runs.map(({ runId: _runId, ...process }) => process);
    },
    onExit: (listener) => exits.onExit(listener),
    async [Symbol.asyncDispose]() {
      ending.abort();
      await view[Symbol.asyncDispose]();
    },
  };
}
