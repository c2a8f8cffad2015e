// What a worker's container is made of. Pure, but for the environment that references are resolved in.
import type { ContainerCreateOptions, MountSettings } from "dockerode";
import type { EnvValue, WorkerSpec } from "#gen/drawbridge/v1/account";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { DockerSettings } from "./config.ts";
import { type Environment, workerSpecJson } from "./worker-environment.ts";

/** The labels by which a system knows its containers; `fence` and `epoch` are on the volume of its leader's epoch. */
export const label = {
  system: "drawbridge.system",
  worker: "drawbridge.worker",
  epoch: "drawbridge.epoch",
  spec: "drawbridge.spec",
  fence: "drawbridge.fence",
} as const;

/** A worker's log has two files of this size at most. */
const logSize = "5m";
const nanoCpus = 1_000_000_000;
const secondNanos = 1_000_000_000;

export function containerName(system: string, workerId: string): string {
  return `${system}-${workerId}`;
}

export interface ContainerContext {
  readonly settings: DockerSettings;
  readonly registryUrl: string;
  readonly token: string;
  readonly environment: Environment;
}

export function containerOptions(spec: WorkerSpec, epoch: number, context: ContainerContext): ContainerCreateOptions {
  const { settings } = context;
  const name = containerName(settings.system, spec.workerId);
  const onHost = settings.network === "host";
  const json = workerSpecJson(spec);
  return {
    Image: settings.image,
    Cmd: ["worker", "--listen", onHost ? "127.0.0.1:0" : `0.0.0.0:${settings.port}`],
    Env: Object.entries({
      ...referenced(spec, context.environment),
      ...(onHost ? {} : { DRAWBRIDGE_ADVERTISE: `http://${name}:${settings.port}` }),
      DRAWBRIDGE_WORKER_SPEC: json,
      DRAWBRIDGE_DETACHED: "1",
      DRAWBRIDGE_REGISTRY_URL: context.registryUrl,
      DRAWBRIDGE_INTERNAL_TOKEN: context.token,
    }).map(([variable, value]) => `${variable}=${value}`),
    Labels: {
      [label.system]: settings.system,
      [label.worker]: spec.workerId,
      [label.epoch]: String(epoch),
      [label.spec]: json,
    },
    StopSignal: "SIGTERM",
    // A free port is not known beforehand; the controller's own checks find a worker that hangs there too.
    ...(onHost ? {} : { Healthcheck: healthcheck(settings.port) }),
    HostConfig: {
      NetworkMode: settings.network,
      Memory: settings.memory,
      NanoCpus: Math.round(settings.cpus * nanoCpus),
      PidsLimit: settings.processes_max,
      // The controller starts a worker anew, and knows why.
      RestartPolicy: { Name: "no" },
      LogConfig: { Type: "json-file", Config: { "max-size": logSize, "max-file": "2" } },
      CapDrop: ["ALL"],
      SecurityOpt: ["no-new-privileges"],
      Mounts: mounts(spec, name, settings),
    },
  };
}

/** For people and for the Engine's own lists: what GET /health says. */
function healthcheck(port: number) {
  const script =
    `fetch("http://127.0.0.1:${port}/health",{headers:{authorization:"Bearer "+process.env.DRAWBRIDGE_INTERNAL_TOKEN}})` +
    ".then(r=>process.exit(r.ok?0:1),()=>process.exit(1))";
  return {
    Test: ["CMD", "node", "-e", script],
    Interval: 15 * secondNanos,
    Timeout: 5 * secondNanos,
    Retries: 3,
    StartPeriod: 120 * secondNanos,
  };
}

/** Agents' homes are kept over restarts, since logins live there; files that references name are readable where they are. */
function mounts(spec: WorkerSpec, name: string, { configuration }: DockerSettings): MountSettings[] {
  const bind = (source: string, target: string): MountSettings => ({
    Type: "bind",
    Source: source,
    Target: target,
    ReadOnly: true,
  });
  const files = new Set(values(spec).flatMap(({ source }) => (source.case === "fromFile" ? [source.value] : [])));
  return [
    { Type: "volume", Source: name, Target: "/data", ReadOnly: false },
    ...(configuration === "" ? [] : [bind(configuration, "/app/drawbridge.yaml")]),
    ...[...files].map((file) => bind(file, file)),
  ];
}

function values({ accounts, agents }: WorkerSpec): EnvValue[] {
  return [...accounts, ...agents].flatMap(({ env }) => Object.values(env));
}

/** The variables that the specification refers to, with their values: the one place where they leave the controller. */
function referenced(spec: WorkerSpec, environment: Environment): Record<string, string> {
  const found: Record<string, string> = {};
  for (const { source } of values(spec)) {
    if (source.case === "fromKubernetesSecret") {
      const message = `Worker ${spec.workerId} refers to the Kubernetes Secret ${source.value.name}, which the docker driver cannot read. Use from_env or from_file.`;
      throw new DrawbridgeError("INVALID_ARGUMENT", message);
    }
    if (source.case !== "fromEnv") continue;
    const value = environment[source.value];
    if (value === undefined) {
      const message = `Worker ${spec.workerId} refers to the environment variable ${source.value}, which is not set where the controller runs. Set it and restart.`;
      throw new DrawbridgeError("INVALID_ARGUMENT", message);
    }
    found[source.value] = value;
  }
  return found;
}
