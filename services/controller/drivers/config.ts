// Settings of the driver that starts workers as containers.
import { z } from "zod";
import { byteSize } from "../../kit/settings.ts";

/** Names the system among others on the same engine. */
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
