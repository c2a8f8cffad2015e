// The environment of a worker process: what every program needs, and the variables that its accounts and agents refer to. Other accounts'
// secrets are not in it.
import type { EnvValue, WorkerSpec } from "#gen/drawbridge/v1/account";

export type Environment = Readonly<Record<string, string | undefined>>;

const inherited =
  /^(?:PATH|HOME|LANG|LC_[A-Z]+|TZ|TMPDIR|NODE_OPTIONS|NODE_EXTRA_CA_CERTS|DRAWBRIDGE_LOG_LEVEL|DRAWBRIDGE_GRACE|DRAWBRIDGE_WORKER_HOST)$/;

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
