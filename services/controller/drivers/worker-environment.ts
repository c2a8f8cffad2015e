// The environment of a worker process: what every program needs, and the variables that its accounts and agents refer to. Other accounts'
// secrets are not in it.
import { toJsonString } from "@bufbuild/protobuf";
import { type EnvValue, type WorkerSpec, WorkerSpecSchema } from "#gen/drawbridge/v1/account";
import { DrawbridgeError } from "../../kit/errors.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

const inherited =
  /^(?:PATH|HOME|LANG|LC_[A-Z]+|TZ|TMPDIR|NODE_OPTIONS|NODE_EXTRA_CA_CERTS|DRAWBRIDGE_LOG_LEVEL|DRAWBRIDGE_GRACE|DRAWBRIDGE_WORKER_HOST)$/;

/** The kernel takes no longer string in an environment (128 KiB). */
const specBytesMax = 120 * 1024;

/** The specification as its worker reads it from a variable. */
export function workerSpecJson(spec: WorkerSpec): string {
  const json = toJsonString(WorkerSpecSchema, spec);
  if (Buffer.byteLength(json) <= specBytesMax) return json;
  throw new DrawbridgeError(
    "INVALID_ARGUMENT",
    `The specification of worker ${spec.workerId} is longer than ${specBytesMax / 1024} KiB. Name fewer models or variables.`,
  );
}

export function workerEnvironment(spec: WorkerSpec, host: Environment): Record<string, string> {
  const referenced = new Set(referencedVariables(spec));
  const environment: Record<string, string> = {};
  for (const [name, value] of Object.entries(host)) {
    if (value !== undefined && (inherited.test(name) || referenced.has(name))) environment[name] = value;
  }
  return environment;
}

function referencedVariables({ accounts, agents }: WorkerSpec): string[] {
  const values: EnvValue[] = [...accounts, ...agents].flatMap(({ env }) => Object.values(env));
  return values.flatMap(({ source }) => (source.case === "fromEnv" ? [source.value] : []));
}
