// A kubelet without containers: runs each Pod as a process of this machine, with the Pod's arguments and environment and nothing else of this process's
// own, and writes its status. Each Pod has a loopback address of its own.
import { type ChildProcess, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import type { V1Container, V1PodStatus } from "@kubernetes/client-node";
import { until } from "./until.ts";
import type { ObjectStore, Stored } from "./kubernetes-store.ts";

export interface KubeletOptions {
  readonly store: ObjectStore;
  /** The program that stands for the image: run as `node PROGRAM ARGUMENTS…`. */
  readonly program: string;
  /** Secrets: name → key → value. */
  readonly secrets: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly environment: Readonly<Record<string, string>>;
  /** Where what Pods write goes. Default: nowhere. */
  readonly output: "ignore" | "inherit";
  /** Whether readiness probes are run. */
  readonly probes: boolean;
}

interface Run {
  readonly process: ChildProcess;
  readonly environment: Record<string, string>;
  readonly container: V1Container;
  ending: boolean;
}

export type Kubelet = ReturnType<typeof createKubelet>;

/** Some seconds of a Pod's readiness probe pass like this many milliseconds here. */
const probeEveryMs = 300;

export function createKubelet({ store, program, secrets, environment: base, output, probes }: KubeletOptions) {
  const runs = new Map<string, Run>();
  const helpers = new Set<ChildProcess>();

  function setStatus(pod: Stored, status: V1PodStatus): void {
    const present = store.find("pods", pod.metadata.name);
    if (present?.metadata.uid !== pod.metadata.uid) return;
    store.update("pods", { ...present, status: Object.assign({}, present.status, status) });
  }

  function start(pod: Stored): void {
    const container = pod.spec?.containers[0];
    if (!container) return;
    const podIP = `127.${randomInt(1, 255)}.${randomInt(0, 255)}.${randomInt(2, 255)}`;
    const environment = resolve(container, podIP);
    if (typeof environment === "string") {
      const waiting = { reason: "CreateContainerConfigError", message: environment };
      setStatus(pod, { phase: "Pending", containerStatuses: [containerStatus(container, { waiting })] });
      return;
    }
    const args = (container.args ?? []).map((argument) => expand(argument, environment));
    const child = spawn(process.execPath, [program, ...args], {
      stdio: ["ignore", output, output],
      detached: true,
      env: { ...base, ...environment },
    });
    const run: Run = { process: child, environment, container, ending: false };
    runs.set(pod.metadata.uid, run);
    child.once("exit", (code, signal) => {
      const exitCode = code ?? (signal === "SIGKILL" ? 137 : 143);
      const terminated = { exitCode, reason: exitCode === 0 ? "Completed" : "Error" };
      const phase = exitCode === 0 ? "Succeeded" : "Failed";
      setStatus(pod, { phase, containerStatuses: [containerStatus(container, { terminated })] });
      runs.delete(pod.metadata.uid);
    });
    const startTime = pod.metadata.creationTimestamp as unknown as Date;
    setStatus(pod, {
      phase: "Running",
      podIP,
      startTime,
      containerStatuses: [containerStatus(container, { running: {} })],
    });
    if (probes) void probe(pod, run);
  }

  /** The variables; a text that says why there are none. */
  function resolve(container: V1Container, podIP: string): Record<string, string> | string {
    const resolved: Record<string, string> = {};
    for (const { name, value, valueFrom } of container.env ?? []) {
      const reference = valueFrom?.secretKeyRef;
      if (value !== undefined) resolved[name] = expand(value, resolved);
      else if (valueFrom?.fieldRef?.fieldPath === "status.podIP") resolved[name] = podIP;
      else if (reference) {
        const secret = secrets[reference.name ?? ""]?.[reference.key];
        if (secret !== undefined) resolved[name] = secret;
        else if (!reference.optional) return `secret "${reference.name}" has no key "${reference.key}"`;
      } else return `variable ${name} has no source`;
    }
    return resolved;
  }

  /** Runs a command in the container: whether it succeeded. */
  async function execute({ environment }: Run, command: readonly string[]): Promise<boolean> {
    const [file = "", ...args] = command;
    const env = { ...base, ...environment };
    const child = spawn(file === "node" ? process.execPath : file, args, { stdio: "ignore", env });
    helpers.add(child);
    const [code] = (await once(child, "exit")) as [number | null];
    helpers.delete(child);
    return code === 0;
  }

  async function probe(pod: Stored, run: Run): Promise<void> {
    const command = run.container.readinessProbe?.exec?.command ?? [];
    let ready = false;
    while (run.process.exitCode === null && run.process.signalCode === null) {
      const answer = await execute(run, command);
      if (answer !== ready) {
        ready = answer;
        setStatus(pod, { conditions: [{ type: "Ready", status: ready ? "True" : "False" }] });
      }
      await new Promise((resolve) => setTimeout(resolve, probeEveryMs));
    }
  }

  async function end(pod: Stored, graceSeconds: number): Promise<void> {
    const run = runs.get(pod.metadata.uid);
    if (run) {
      const hurry = setTimeout(() => run.process.kill("SIGKILL"), graceSeconds * 1_000);
      try {
        if (!run.ending) {
          run.ending = true;
          const command = run.container.lifecycle?.preStop?.exec?.command;
          const exited = ended(run.process);
          if (command) await Promise.race([execute(run, command), exited]);
          run.process.kill("SIGTERM");
        }
        await ended(run.process);
      } finally {
        clearTimeout(hurry);
      }
    }
    if (store.find("pods", pod.metadata.name)?.metadata.uid === pod.metadata.uid)
      store.remove("pods", pod.metadata.name);
  }

  return {
    start,
    /** preStop, SIGTERM, SIGKILL after the grace; then the Pod is gone. */
    end,
    /** As the kernel's out-of-memory killer does. */
    async kill(pod: Stored) {
      const run = await until("the Pod runs", () => runs.get(pod.metadata.uid));
      run.process.kill("SIGKILL");
    },
    async [Symbol.asyncDispose]() {
      await Promise.all([...runs.values()].map(({ process: child }) => endSoon(child)));
      for (const helper of helpers) helper.kill("SIGKILL");
    },
  };
}

async function endSoon(child: ChildProcess): Promise<void> {
  const hurry = setTimeout(() => child.kill("SIGKILL"), 5_000);
  child.kill("SIGTERM");
  await ended(child);
  clearTimeout(hurry);
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
}

function containerStatus(container: V1Container, state: object) {
  const { name, image = "" } = container;
  return { name, image, imageID: "", ready: "running" in state, restartCount: 0, state };
}

/** `$(NAME)` is a variable's value, `$$` a dollar. */
function expand(text: string, environment: Readonly<Record<string, string>>): string {
  return text.replaceAll(/\$(?:\$|\(([A-Za-z_][A-Za-z0-9_]*)\))/g, (whole, name?: string) =>
    name === undefined ? "$" : (environment[name] ?? whole),
  );
}
