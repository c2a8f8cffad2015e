// Settings of the drivers that start workers as containers or as Pods.
import { z } from "zod";
import { byteSize } from "../../kit/settings.ts";

/** Names the system among others on the same engine or in the same namespace. */
const system = z
  .string()
  .regex(/^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/, "expected up to 32 lower-case letters, digits and dashes");
const image = z.string().min(1).max(512);
const cpus = z.number().min(0.01).max(1_024);
const port = z.int().min(1).max(65_535);

export const dockerSettings = z
  .strictObject({
    /** The Engine's address; Podman's socket does too. Default unix:///var/run/docker.sock. */
    host: z
      .string()
      .regex(/^(?:unix:\/\/\/|https?:\/\/)/, "expected unix:///PATH or http://HOST:PORT")
      .default("unix:///var/run/docker.sock"),
    /** What workers run: this program. Default drawbridge. */
    image: image.default("drawbridge"),
    /** Marks the containers that are this system's own. Default drawbridge. */
    system: system.default("drawbridge"),
    /** A network on which registry, schedulers, gateways and controllers reach containers by name; "host": the host's own. Default drawbridge. */
    network: z.string().min(1).max(256).default("drawbridge"),
    /** Where a worker listens in its container; on the host's network it takes a free one. Default 7070. */
    port: port.default(7_070),
    /** Memory of one worker with all its agents. Default 1GiB. */
    memory: byteSize().prefault("1GiB"),
    /** Processors of one worker. Default 1. */
    cpus: cpus.default(1),
    /** Processes and threads of one worker. Default 1024. */
    processes_max: z.int().min(16).max(1_000_000).default(1_024),
    /** drawbridge.yaml on the Engine's host, for the settings under `worker`. Default: none, so all have their defaults. */
    configuration: z
      .string()
      .regex(/^(?:\/.*)?$/, "expected an absolute path")
      .default(""),
  })
  .prefault({});

export type DockerSettings = z.output<typeof dockerSettings>;

/** A name of an object in the cluster. */
const objectName = z
  .string()
  .max(253)
  .regex(/^[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?$/, "expected lower-case letters, digits, dots and dashes");

export const kubernetesSettings = z
  .strictObject({
    /** A kubeconfig file. Default: in a Pod its service account, else $KUBECONFIG or ~/.kube/config. */
    kubeconfig: z.string().max(4_096).default(""),
    /** A context of the kubeconfig. Default: its current one. */
    context: z.string().max(256).default(""),
    /** Where Pods are. Default: the controller's own namespace, or the context's. */
    namespace: z.union([z.literal(""), objectName]).default(""),
    /** Marks the Pods that are this system's own. Default drawbridge. */
    system: system.default("drawbridge"),
    /** What workers run: this program. Default drawbridge. */
    image: image.default("drawbridge"),
    /** When the image is pulled. Default IfNotPresent. */
    image_pull_policy: z.enum(["Always", "IfNotPresent", "Never"]).default("IfNotPresent"),
    /** Secrets for the image's registry. Default none. */
    image_pull_secrets: z.array(objectName).max(16).default([]),
    /** Whom Pods run as; it needs no rights, and its token is not mounted. Default drawbridge-worker. */
    service_account: objectName.default("drawbridge-worker"),
    /** The Secret with DRAWBRIDGE_INTERNAL_TOKEN, and with what accounts refer to by from_env. Default drawbridge. */
    secret: objectName.default("drawbridge"),
    /** A ConfigMap with drawbridge.yaml, for the settings under `worker`. Default: none, so all have their defaults. */
    configuration: z.union([z.literal(""), objectName]).default(""),
    /** Where a worker listens in its Pod. Default 7070. */
    port: port.default(7_070),
    /** Processors of one worker at most. Default 1. */
    cpus: cpus.default(1),
    /** Processors that a node keeps for one worker. At most cpus. Default 0.25. */
    cpus_requested: cpus.default(0.25),
    /** Memory of one worker with all its agents at most. Default 1GiB. */
    memory: byteSize().prefault("1GiB"),
    /** Memory that a node keeps for one worker. At most memory. Default 512MiB. */
    memory_requested: byteSize().prefault("512MiB"),
    /** Disk space for agents' homes, which go with their Pod. Default 2GiB. */
    storage: byteSize().prefault("2GiB"),
    /** Labels of the nodes that may run workers. Default: any. */
    node_selector: z.record(z.string().max(317), z.string().max(63)).default({}),
  })
  .refine((settings) => settings.cpus_requested <= settings.cpus, {
    path: ["cpus_requested"],
    error: "expected at most cpus",
  })
  .refine((settings) => settings.memory_requested <= settings.memory, {
    path: ["memory_requested"],
    error: "expected at most memory",
  })
  .prefault({});

export type KubernetesSettings = z.output<typeof kubernetesSettings>;
