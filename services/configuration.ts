// drawbridge.yaml as a whole: the file, then the environment, then flags, checked against the schema that the parts' own settings make up.
import { readFile } from "node:fs/promises";
import { parseDocument } from "yaml";
import { z } from "zod";
import { accountsSetting, accountSpecs, agentSpecs, agentsSetting, controllerSettings } from "./controller/config.ts";
import { channelsSetting, gatewaySettings, pricesSetting, tiersSetting } from "./gateway/config.ts";
import { DrawbridgeError } from "./kit/errors.ts";
import { duration, listenAddress, parseSettings, urls } from "./kit/settings.ts";
import { registrySettings } from "./registry/config.ts";
import { schedulerSettings } from "./scheduler/config.ts";
import { workerSettings } from "./worker/config.ts";

const internalSettings = z.strictObject({
  /** `up`: where registry, scheduler and controller listen for this machine's workers and typed clients. Port 0: any free one. */
  listen: listenAddress().prefault("127.0.0.1:0"),
  /** Where the registry is, or several with commas between them; by itself it listens at the first. DRAWBRIDGE_REGISTRY_URL. */
  registry_url: urls().prefault("http://127.0.0.1:7071"),
  /** Where the scheduler is, or several with commas between them; by itself it listens at the first. DRAWBRIDGE_SCHEDULER_URL. */
  scheduler_url: urls().prefault("http://127.0.0.1:7072"),
  /** Where the controller is, or several with commas between them; by itself it listens at the first. DRAWBRIDGE_CONTROLLER_URL. */
  controller_url: urls().prefault("http://127.0.0.1:7073"),
  /** The address or name of this host on which workers listen and are reached. DRAWBRIDGE_WORKER_HOST. */
  worker_host: z.string().min(1).default("127.0.0.1"),
  /** A worker's address for others, where it is not the one that it listens on. DRAWBRIDGE_ADVERTISE. */
  advertise: z.url().optional(),
});

const fileSchema = z
  .strictObject({
    /** The gateway's one public port. DRAWBRIDGE_LISTEN, --listen. */
    listen: listenAddress().prefault("127.0.0.1:8080"),
    /** The store: sqlite:PATH, or valkey://host:6379 and its kin (docs/state.md). DRAWBRIDGE_STATE, --state. */
    state: z.string().min(1).default("sqlite:.drawbridge/state.db"),
    /** Where logs, agents' homes, settlements that wait for the store and the local admin key go. DRAWBRIDGE_DIRECTORY. */
    directory: z.string().min(1).default(".drawbridge"),
    /** When stopping, time for streams in flight. DRAWBRIDGE_GRACE, --grace. */
    grace: duration().prefault("30s"),
    log: z
      .strictObject({
        /** DRAWBRIDGE_LOG_LEVEL. */
        level: z.enum(["trace", "debug", "info", "warn", "error", "silent"]).default("info"),
      })
      .prefault({}),
    agents: agentsSetting,
    accounts: accountsSetting,
    prices: pricesSetting,
    tiers: tiersSetting,
    channels: channelsSetting,
    internal: internalSettings.prefault({}),
    gateway: gatewaySettings,
    scheduler: schedulerSettings,
    registry: registrySettings,
    controller: controllerSettings,
    worker: workerSettings.prefault({}),
  })
  .superRefine((settings, context) => {
    // A worker that is cut off is given up after its own lease and ends its turns within the cancel grace. The leases of these turns last longer:
    // otherwise their credits and places are given away while they still run.
    const { registry, scheduler, worker, controller } = settings;
    const givenUpMs = registry.lease_ttl + worker.cancel_grace;
    const leases = {
      "registry.prompt_lease_ttl": registry.prompt_lease_ttl,
      "scheduler.lease_ttl": scheduler.lease_ttl,
    };
    for (const [field, leaseMs] of Object.entries(leases)) {
      if (givenUpMs < leaseMs + scheduler.sweep_interval) continue;
      context.addIssue({
        code: "custom",
        path: field.split("."),
        message: `expected more than registry.lease_ttl + worker.cancel_grace (${givenUpMs} ms), less scheduler.sweep_interval`,
      });
    }
    // A worker that was lost with its registry has time to register again before its silence counts.
    if (controller.registry_caution < 2 * registry.lease_ttl) {
      context.addIssue({
        code: "custom",
        path: ["controller", "registry_caution"],
        message: `expected at least two of registry.lease_ttl (${2 * registry.lease_ttl} ms)`,
      });
    }
  });

/** Environment variable → the field that it sets. */
const environmentFields: Record<string, readonly string[]> = {
  DRAWBRIDGE_LISTEN: ["listen"],
  DRAWBRIDGE_STATE: ["state"],
  DRAWBRIDGE_DIRECTORY: ["directory"],
  DRAWBRIDGE_GRACE: ["grace"],
  DRAWBRIDGE_LOG_LEVEL: ["log", "level"],
  DRAWBRIDGE_INTERNAL_LISTEN: ["internal", "listen"],
  DRAWBRIDGE_REGISTRY_URL: ["internal", "registry_url"],
  DRAWBRIDGE_SCHEDULER_URL: ["internal", "scheduler_url"],
  DRAWBRIDGE_CONTROLLER_URL: ["internal", "controller_url"],
  DRAWBRIDGE_WORKER_HOST: ["internal", "worker_host"],
  DRAWBRIDGE_ADVERTISE: ["internal", "advertise"],
};

export const defaultFile = "drawbridge.yaml";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface ConfigurationSources {
  /** The file; undefined: drawbridge.yaml, if it is there. */
  readonly file?: string | undefined;
  readonly environment: Environment;
  readonly flags?: {
    readonly listen?: string | undefined;
    readonly state?: string | undefined;
    readonly grace?: string | undefined;
  };
}

export type Configuration = ReturnType<typeof parseConfiguration>;

/** The configuration of this process, and the file that it came from. A wrong field is refused with its path and what was expected. */
export async function loadConfiguration(
  sources: ConfigurationSources,
): Promise<{ readonly configuration: Configuration; readonly file: string | undefined }> {
  const file = sources.file ?? defaultFile;
  const text = await readText(file, sources.file !== undefined);
  const fields = text === undefined ? {} : parseYaml(text, file);
  overlayEnvironment(fields, sources.environment);
  // By name: commands pass all their flags, and not every flag is a field.
  const { listen, state, grace } = sources.flags ?? {};
  for (const [name, value] of Object.entries({ listen, state, grace })) if (value !== undefined) fields[name] = value;
  const configuration = parseConfiguration(
    fields,
    text === undefined ? "The configuration" : file,
    sources.environment,
  );
  return { configuration, file: text === undefined ? undefined : file };
}

function parseConfiguration(fields: unknown, source: string, environment: Environment) {
  const { accounts, agents, prices, tiers, channels, gateway, ...settings } = parseSettings(fileSchema, fields, source);
  const keyPepper = environment["DRAWBRIDGE_KEY_PEPPER"] ?? "";
  return Object.freeze({
    ...settings,
    gateway: Object.freeze({ ...gateway, prices, tiers, channels, keyPepper }),
    accounts: accountSpecs(accounts),
    agents: agentSpecs(agents),
    /** Secrets come by environment only. */
    secrets: Object.freeze({
      internalToken: environment["DRAWBRIDGE_INTERNAL_TOKEN"],
      apiKey: environment["DRAWBRIDGE_API_KEY"],
      adminKey: environment["DRAWBRIDGE_ADMIN_KEY"],
      keyPepper,
    }),
  });
}

async function readText(file: string, required: boolean): Promise<string | undefined> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" && !required) return undefined;
    const why =
      code === "ENOENT" ? "it is not there" : code === "EISDIR" ? "it is a folder" : `it cannot be read (${code})`;
    throw new DrawbridgeError("INVALID_ARGUMENT", `Configuration file ${file}: ${why}.`, { cause: error });
  }
}

function parseYaml(text: string, file: string): Record<string, unknown> {
  const document = parseDocument(text, { prettyErrors: true });
  const [problem] = document.errors;
  if (problem) throw new DrawbridgeError("INVALID_ARGUMENT", `${file} is no valid YAML: ${problem.message}`);
  const fields: unknown = document.toJS() ?? {};
  if (typeof fields !== "object" || fields === null || Array.isArray(fields)) {
    throw new DrawbridgeError("INVALID_ARGUMENT", `${file} must be a mapping such as "listen: 127.0.0.1:8080".`);
  }
  return fields as Record<string, unknown>;
}

function overlayEnvironment(fields: Record<string, unknown>, environment: Environment): void {
  for (const [name, path] of Object.entries(environmentFields)) {
    const value = environment[name];
    if (value === undefined || value === "") continue;
    const [first = "", second] = path;
    if (second === undefined) fields[first] = value;
    else fields[first] = { ...(fields[first] as Record<string, unknown> | undefined), [second]: value };
  }
}
