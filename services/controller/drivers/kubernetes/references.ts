// References to secrets: the Pod names them, the kubelet resolves them, and the API server never stores a value in a Pod. Pure.
import type { V1EnvVar } from "@kubernetes/client-node";
import { clone, create } from "@bufbuild/protobuf";
import { type EnvValue, EnvValueSchema, type WorkerSpec, WorkerSpecSchema } from "#gen/drawbridge/v1/account";

export interface References {
  /** The specification for the worker: each reference to a Secret is one to a variable of its own. */
  readonly spec: WorkerSpec;
  /** These variables. */
  readonly env: readonly V1EnvVar[];
}

/** `from_secret` names a Secret's key; `from_env` names a key of the Secret that stands for the worker's environment. */
export function referTo(original: WorkerSpec, environmentSecret: string): References {
  const spec = clone(WorkerSpecSchema, original);
  const variables = new Map<string, V1EnvVar>();
  for (const { env } of [...spec.accounts, ...spec.agents]) {
    for (const [name, value] of Object.entries(env)) env[name] = refer(value, environmentSecret, variables);
  }
  return { spec, env: [...variables.values()] };
}

function refer(value: EnvValue, environmentSecret: string, variables: Map<string, V1EnvVar>): EnvValue {
  const { source } = value;
  if (source.case === "fromEnv") {
    const name = source.value;
    // Optional: the worker says which variable is missing, while a Pod would only never start. What the driver sets itself comes after.
    const secretKeyRef = { name: environmentSecret, key: name, optional: true };
    variables.set(name, { name, valueFrom: { secretKeyRef } });
  }
  if (source.case !== "fromKubernetesSecret") return value;
  const { name: secret, key } = source.value;
  const reference = `${secret}/${key}`;
  const known = variables.get(reference);
  const name = known?.name ?? `DRAWBRIDGE_SECRET_${variables.size}`;
  variables.set(reference, known ?? { name, valueFrom: { secretKeyRef: { name: secret, key } } });
  return create(EnvValueSchema, { source: { case: "fromEnv", value: name } });
}
