// The driver that the settings name. Clients of engines are loaded only where they are used.
import type { Clock } from "../../kit/clock.ts";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { Log } from "../../kit/log.ts";
import type { Random } from "../../kit/random.ts";
import type { ControllerSettings } from "../config.ts";
import type { WorkerDriver } from "./driver.ts";
import { createProcessDriver } from "./process.ts";

export interface DriverOptions {
  readonly settings: ControllerSettings;
  /** The program that worker processes are started with. */
  readonly entry: string;
  /** Further arguments of worker processes, such as the configuration file's. */
  readonly arguments: readonly string[];
  readonly registryUrl: () => string;
  readonly token: string;
  /** For logs and agents' homes of worker processes. */
  readonly directory: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export async function openDriver(options: DriverOptions): Promise<WorkerDriver> {
  const { settings } = options;
  switch (settings.driver) {
    case "process":
      return createProcessDriver(options);
    case "docker": {
      const [{ default: Docker }, { createDockerDriver }] = await Promise.all([
        import("dockerode"),
        import("./docker.ts"),
      ]);
      const engine = new Docker(engineAddress(settings.docker.host));
      const environment = process.env;
      return createDockerDriver({ ...options, engine, settings: settings.docker, environment });
    }
    case "kubernetes": {
      const [{ loadCluster }, { createKubernetesDriver }] = await Promise.all([
        import("./kubernetes/cluster.ts"),
        import("./kubernetes/driver.ts"),
      ]);
      const cluster = loadCluster(settings.kubernetes, process.env);
      return createKubernetesDriver({
        ...options,
        ...cluster,
        settings: settings.kubernetes,
        drainGraceMs: settings.drain_grace,
      });
    }
  }
}

function engineAddress(host: string) {
  if (host.startsWith("unix://")) return { socketPath: host.slice("unix://".length) };
  const { protocol, hostname, port } = new URL(host);
  if (protocol === "http:" || protocol === "https:") {
    const scheme = protocol === "https:" ? ("https" as const) : ("http" as const);
    return { protocol: scheme, host: hostname, port: Number(port || (scheme === "https" ? 2_376 : 2_375)) };
  }
  throw new DrawbridgeError("INVALID_ARGUMENT", `docker.host: ${host} is no address of an Engine.`);
}
