// The docker driver: workers are containers, started through the Engine API (Docker's, or Podman's). They outlive the controller: whoever leads next
// finds them by their labels.
import { setMaxListeners } from "node:events";
import type Docker from "dockerode";
import { fromJsonString } from "@bufbuild/protobuf";
import { WorkerSpecSchema } from "#gen/drawbridge/v1/account";
import type { Clock } from "../../kit/clock.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { Log } from "../../kit/log.ts";
import { backoffMs, type Random } from "../../kit/random.ts";
import type { DockerSettings } from "./config.ts";
import { containerName, containerOptions, label } from "./docker-container.ts";
import { engineMessage, unless } from "./docker-errors.ts";
import { createEngineFence } from "./docker-fence.ts";
import type { WorkerDriver } from "./driver.ts";
import { createExits, type Ending, type Run } from "./exits.ts";
import type { Environment } from "./worker-environment.ts";

export interface DockerDriverOptions {
  readonly engine: Docker;
  readonly settings: DockerSettings;
  readonly registryUrl: () => string;
  readonly token: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  /** Where `from_env` is resolved. */
  readonly environment: Environment;
  /** Time between SIGTERM and SIGKILL of a worker that is destroyed, in ms. Default 3 s. */
  readonly terminateMs?: number;
}

const retryBaseMs = 200;
const retryMaxMs = 5_000;
/** States in which a container is a worker that runs. */
const running = ["running", "paused", "restarting"];

export function createDockerDriver(options: DockerDriverOptions): WorkerDriver {
  const { engine, settings, clock, log } = options;
  const terminateSeconds = Math.ceil((options.terminateMs ?? 3_000) / 1_000);
  const ending = new AbortController();
  setMaxListeners(0, ending.signal);
  const fence = createEngineFence({ engine, system: settings.system, signal: ending.signal });
  const exits = createExits();
  let watching = watch();

  /** All containers of this system, in whatever state. */
  async function containers(): Promise<Docker.ContainerInfo[]> {
    return await engine.listContainers({
      all: true,
      filters: { label: [`${label.system}=${settings.system}`] },
      abortSignal: ending.signal,
    });
  }

  /** Refuses an epoch that is lower than one that this driver, or another one on this Engine, has acted for. */
  async function fenced(epoch: number): Promise<Docker.ContainerInfo[]> {
    const all = await containers();
    // Containers too: somebody may have pruned the volumes.
    await fence.claim(
      epoch,
      all.map(({ Labels }) => Number(Labels[label.epoch] ?? 0)),
    );
    return all;
  }

  async function look(): Promise<readonly Run[]> {
    const all = await containers();
    const now = all.filter(({ State }) => running.includes(State)).flatMap((info) => runOf(info, log) ?? []);
    const endings = new Map(all.map((info) => [info.Id, endingOf(info)]));
    exits.look(now, ({ runId }) => endings.get(runId) ?? { code: undefined, signal: undefined });
    return now;
  }

  async function remove(id: string): Promise<void> {
    await engine.getContainer(id).remove({ force: true }).catch(unless(404, 409));
  }

  /** Between the claim and the creation another leader may have begun. */
  async function keep(container: Docker.Container, epoch: number): Promise<void> {
    try {
      await fence.claim(epoch);
    } catch (error) {
      await remove(container.id);
      throw error;
    }
  }

  /** Looks whenever the Engine says that a container ended; and at once after each (re)connection. */
  async function watch(): Promise<void> {
    let failures = 0;
    while (!ending.signal.aborted) {
      try {
        const events = await engine.getEvents({
          filters: { type: ["container"], event: ["die"], label: [`${label.system}=${settings.system}`] },
          abortSignal: ending.signal,
        });
        await look();
        failures = 0;
        for await (const _ of events) await look();
      } catch (error) {
        if (ending.signal.aborted) return;
        log.warn({ err: error }, "the engine's events broke; listening again");
      }
      await clock.sleep(backoffMs(++failures, retryBaseMs, retryMaxMs, options.random), ending.signal).catch(() => {
        // Only the end interrupts it, and the loop looks for that.
      });
    }
  }

  return {
    async claim(epoch, signal) {
      signal.throwIfAborted();
      await fenced(epoch);
    },
    async create(spec, epoch, signal) {
      signal.throwIfAborted();
      const name = containerName(settings.system, spec.workerId);
      const present = (await fenced(epoch)).find(({ Names }) => Names.includes(`/${name}`));
      if (present && running.includes(present.State)) return;
      if (present) await remove(present.Id);
      signal.throwIfAborted();
      try {
        const body = containerOptions(spec, epoch, { ...options, registryUrl: options.registryUrl() });
        // Apart, since the client would write the whole body into the address too, the token included.
        const request = { _query: { name }, _body: body, abortSignal: signal };
        const container = await engine.createContainer(request as Docker.ContainerCreateOptions);
        await keep(container, epoch);
        await container.start();
        exits.started({ workerId: spec.workerId, spec, pid: 0, startedAt: clock.now(), runId: container.id });
        log.info({ worker: spec.workerId, container: container.id }, "worker started");
      } catch (error) {
        throw failure(spec.workerId, error);
      }
    },
    async destroy(workerId, epoch) {
      const name = containerName(settings.system, workerId);
      const present = (await fenced(epoch)).find(({ Names }) => Names.includes(`/${name}`));
      if (!present) return;
      exits.request(present.Id);
      await engine.getContainer(present.Id).stop({ t: terminateSeconds }).catch(unless(304, 404));
      await look();
      await remove(present.Id);
    },
    async list() {
      return (await look()).map(({ runId: _runId, ...process }) => process);
    },
    onExit: (listener) => exits.onExit(listener),
    async [Symbol.asyncDispose]() {
      ending.abort();
      await watching;
      watching = Promise.resolve();
    },
  };
}

function runOf({ Id, Labels, Created }: Docker.ContainerInfo, log: Log): Run | undefined {
  try {
    const spec = fromJsonString(WorkerSpecSchema, Labels[label.spec] ?? "");
    return { workerId: spec.workerId, spec, pid: 0, startedAt: Created * 1_000, runId: Id };
  } catch (error) {
    log.error({ err: error, container: Id }, "a container has this system's label and no worker's specification");
    return undefined;
  }
}

/** From the Engine's words, such as "Exited (137) 2 seconds ago". */
function endingOf({ Status }: Docker.ContainerInfo): Ending {
  const code = /^Exited \((\d+)\)/.exec(Status)?.[1];
  return { code: code === undefined ? undefined : Number(code), signal: undefined };
}

function failure(workerId: string, error: unknown): unknown {
  if (error instanceof DrawbridgeError) return error;
  const message = `The container of worker ${workerId} could not be started: ${engineMessage(error)}`;
  return new DrawbridgeError("INTERNAL", message, { cause: error });
}
