// What a worker's Pod is made of, and what a Pod says of its worker. Pure.
import type { V1Container, V1OwnerReference, V1Pod, V1PodSpec } from "@kubernetes/client-node";
import { fromJsonString } from "@bufbuild/protobuf";
import { type WorkerSpec, WorkerSpecSchema } from "#gen/drawbridge/v1/account";
import type { Log } from "../../../kit/log.ts";
import type { KubernetesSettings } from "../config.ts";
import type { Ending, Run } from "../exits.ts";
import { workerSpecJson } from "../worker-environment.ts";
import { label, labelValue, podName, specAnnotation, workerLabels } from "./names.ts";
import { drainCommand, healthCommand } from "./probes.ts";
import { referTo } from "./references.ts";

export interface PodContext {
  readonly settings: KubernetesSettings;
  readonly registryUrl: string;
  /** Time for prompts in flight when somebody deletes the Pod, in ms. */
  readonly drainGraceMs: number;
}

/** The user "node" of the image, as a number: the kubelet cannot tell whether a name is root. */
const user = 1_000;
/** Beyond the drain, for agents to end and the worker to leave the registry. */
const endSeconds = 15;

export function workerPod(spec: WorkerSpec, epoch: number, owner: V1OwnerReference, context: PodContext): V1Pod {
  const { settings } = context;
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: podName(settings.system, spec.workerId),
      labels: {
        ...workerLabels(settings.system),
        [label.worker]: labelValue(spec.workerId),
        [label.account]: labelValue(spec.accounts[0]?.id ?? ""),
        [label.epoch]: String(epoch),
      },
      annotations: { [specAnnotation]: workerSpecJson(spec) },
      ownerReferences: [owner],
    },
    spec: podSpec(spec, context),
  };
}

function podSpec(spec: WorkerSpec, context: PodContext): V1PodSpec {
  const { settings } = context;
  return {
    // The controller starts a worker anew, and knows why.
    restartPolicy: "Never",
    terminationGracePeriodSeconds: Math.ceil(context.drainGraceMs / 1_000) + endSeconds,
    serviceAccountName: settings.service_account,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    nodeSelector: settings.node_selector,
    imagePullSecrets: settings.image_pull_secrets.map((name) => ({ name })),
    securityContext: {
      runAsNonRoot: true,
      runAsUser: user,
      runAsGroup: user,
      fsGroup: user,
      seccompProfile: { type: "RuntimeDefault" },
    },
    containers: [container(spec, context)],
    volumes: [
      { name: "data", emptyDir: { sizeLimit: String(settings.storage) } },
      ...(settings.configuration === ""
        ? []
        : [{ name: "configuration", configMap: { name: settings.configuration } }]),
    ],
  };
}

function container(spec: WorkerSpec, context: PodContext): V1Container {
  const { settings } = context;
  const { spec: handed, env } = referTo(spec, settings.secret);
  const graceSeconds = Math.ceil(context.drainGraceMs / 1_000);
  return {
    name: "worker",
    image: settings.image,
    imagePullPolicy: settings.image_pull_policy,
    args: ["worker", "--listen", `$(POD_IP):${settings.port}`],
    env: [
      ...env,
      { name: "POD_IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
      {
        name: "DRAWBRIDGE_INTERNAL_TOKEN",
        valueFrom: { secretKeyRef: { name: settings.secret, key: "DRAWBRIDGE_INTERNAL_TOKEN" } },
      },
      { name: "DRAWBRIDGE_DETACHED", value: "1" },
      { name: "DRAWBRIDGE_GRACE", value: `${graceSeconds}s` },
      { name: "DRAWBRIDGE_REGISTRY_URL", value: literal(context.registryUrl) },
      { name: "DRAWBRIDGE_WORKER_SPEC", value: literal(workerSpecJson(handed)) },
    ],
    ports: [{ name: "worker", containerPort: settings.port }],
    resources: {
      requests: { cpu: processors(settings.cpus_requested), memory: String(settings.memory_requested) },
      limits: { cpu: processors(settings.cpus), memory: String(settings.memory) },
    },
    readinessProbe: {
      exec: { command: healthCommand(settings.port) },
      periodSeconds: 15,
      timeoutSeconds: 5,
      failureThreshold: 2,
    },
    lifecycle: { preStop: { exec: { command: drainCommand(settings.port, graceSeconds) } } },
    securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } },
    volumeMounts: [
      { name: "data", mountPath: "/data" },
      ...(settings.configuration === ""
        ? []
        : [{ name: "configuration", mountPath: "/app/drawbridge.yaml", subPath: "drawbridge.yaml", readOnly: true }]),
    ],
  };
}

/** `$(NAME)` in a value is a reference to the kubelet, `$$(NAME)` is not. */
function literal(value: string): string {
  return value.replaceAll("$", () => "$$");
}

function processors(count: number): string {
  return `${Math.round(count * 1_000)}m`;
}

/** A Pod that is on its way in, or that has a container which may still run. */
export function isRunning({ status }: V1Pod): boolean {
  return status?.phase !== "Succeeded" && status?.phase !== "Failed";
}

/** Somebody has asked for its end. */
export function isEnding({ metadata }: V1Pod): boolean {
  return metadata?.deletionTimestamp !== undefined;
}

/** Why a Pod does not run yet, such as a missing image, a missing Secret, or no node with room. */
export function obstacleOf({ status }: V1Pod): string | undefined {
  if (status?.phase !== "Pending") return undefined;
  const waiting = status.containerStatuses?.[0]?.state?.waiting;
  const unscheduled = status.conditions?.find(
    (condition) => condition.type === "PodScheduled" && condition.status === "False",
  );
  const { reason, message } = waiting ?? unscheduled ?? {};
  return reason && `${reason}: ${message ?? "no more is known"}`;
}

export function runOf({ metadata, status }: V1Pod, log: Log): Run | undefined {
  try {
    const spec = fromJsonString(WorkerSpecSchema, metadata?.annotations?.[specAnnotation] ?? "");
    // A watch hands times over as texts.
    const startedAt = new Date(status?.startTime ?? metadata?.creationTimestamp ?? 0).getTime();
    return { workerId: spec.workerId, spec, pid: 0, startedAt, runId: metadata?.uid ?? "" };
  } catch (error) {
    log.error({ err: error, pod: metadata?.name }, "a Pod has this system's labels and no worker's specification");
    return undefined;
  }
}

/** How its container ended, if the Pod told before it went. */
export function endingOf(pod: V1Pod | undefined): Ending {
  const ended = pod?.status?.containerStatuses?.[0]?.state?.terminated;
  return { code: ended?.exitCode, signal: undefined };
}
