// What an API server refuses in a Pod or a ConfigMap: fields that do not exist, and values that break their rules. Fields that the driver does not
// use are refused too.
import { Refusal } from "./kubernetes-store.ts";

/** A tree of fields: "any" for a value, a tree for an object, a list of one tree for a list, "map" for text by text. */
type Fields = "any" | "map" | readonly [Fields] | { readonly [name: string]: Fields };

const secretKeyRef = { name: "any", key: "any", optional: "any" } as const;
const exec = { exec: { command: ["any"] } } as const;
const metadata = {
  name: "any",
  namespace: "any",
  labels: "map",
  annotations: "map",
  ownerReferences: [{ apiVersion: "any", kind: "any", name: "any", uid: "any" }],
  resourceVersion: "any",
  uid: "any",
  creationTimestamp: "any",
} as const;

const pod: Fields = {
  apiVersion: "any",
  kind: "any",
  metadata,
  spec: {
    restartPolicy: "any",
    terminationGracePeriodSeconds: "any",
    serviceAccountName: "any",
    automountServiceAccountToken: "any",
    enableServiceLinks: "any",
    nodeSelector: "map",
    imagePullSecrets: [{ name: "any" }],
    securityContext: {
      runAsNonRoot: "any",
      runAsUser: "any",
      runAsGroup: "any",
      fsGroup: "any",
      seccompProfile: { type: "any" },
    },
    containers: [
      {
        name: "any",
        image: "any",
        imagePullPolicy: "any",
        args: ["any"],
        env: [
          { name: "any", value: "any", valueFrom: { secretKeyRef, fieldRef: { fieldPath: "any", apiVersion: "any" } } },
        ],
        ports: [{ name: "any", containerPort: "any", protocol: "any" }],
        resources: { requests: "map", limits: "map" },
        readinessProbe: { ...exec, periodSeconds: "any", timeoutSeconds: "any", failureThreshold: "any" },
        lifecycle: { preStop: exec },
        securityContext: { allowPrivilegeEscalation: "any", capabilities: { drop: ["any"] } },
        volumeMounts: [{ name: "any", mountPath: "any", subPath: "any", readOnly: "any" }],
      },
    ],
    volumes: [{ name: "any", emptyDir: { sizeLimit: "any" }, configMap: { name: "any" } }],
  },
};
const configMap: Fields = { apiVersion: "any", kind: "any", metadata, data: "map" };

const hostLabel = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
const qualifiedName = /^(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?\/)?[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/;
const labelValue = /^(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$/;
const quantity = /^\d+(?:\.\d+)?(?:m|k|Ki|M|Mi|G|Gi)?$/;
const annotationBytesMax = 256 << 10;

interface Checked {
  readonly metadata?: {
    readonly name?: string;
    readonly labels?: Record<string, string>;
    readonly annotations?: Record<string, string>;
  };
  readonly spec?: {
    readonly terminationGracePeriodSeconds?: number;
    readonly volumes?: readonly { name: string }[];
    readonly containers?: readonly {
      readonly image?: string;
      readonly env?: readonly { name: string; value?: string; valueFrom?: object }[];
      readonly resources?: { requests?: Record<string, string>; limits?: Record<string, string> };
      readonly volumeMounts?: readonly { name: string; mountPath: string }[];
    }[];
  };
}

export function checkConfigMap(body: unknown): void {
  refuseUnknown("ConfigMap", body, configMap);
  checkMetadata((body as Checked).metadata);
}

export function checkPod(body: unknown): void {
  refuseUnknown("Pod", body, pod);
  const { metadata: meta, spec } = body as Checked;
  checkMetadata(meta);
  invalidUnless(hostLabel.test(meta?.name ?? ""), `metadata.name: "${meta?.name}"`);
  invalidUnless(spec?.containers?.length === 1, "spec.containers");
  invalidUnless(Number.isInteger(spec?.terminationGracePeriodSeconds), "spec.terminationGracePeriodSeconds");
  for (const { image, env = [], resources, volumeMounts = [] } of spec?.containers ?? []) {
    invalidUnless(image, "spec.containers[0].image");
    for (const { name, value, valueFrom } of env) {
      invalidUnless(/^[A-Za-z_.-][A-Za-z0-9_.-]*$/.test(name), `env name "${name}"`);
      invalidUnless((value === undefined) !== (valueFrom === undefined), `env ${name}: value and valueFrom`);
    }
    for (const [name, amount] of Object.entries({ ...resources?.requests, ...resources?.limits })) {
      invalidUnless(quantity.test(amount), `quantity of ${name}: "${amount}"`);
    }
    const volumes = spec?.volumes?.map(({ name }) => name);
    for (const { name } of volumeMounts) invalidUnless(volumes?.includes(name), `volumeMounts: no volume "${name}"`);
    const paths = volumeMounts.map(({ mountPath }) => mountPath);
    invalidUnless(new Set(paths).size === paths.length, "volumeMounts: one path twice");
  }
}

function checkMetadata(meta: Checked["metadata"]): void {
  for (const [name, value] of Object.entries(meta?.labels ?? {})) {
    invalidUnless(qualifiedName.test(name), `label name "${name}"`);
    invalidUnless(labelValue.test(value), `label ${name}: "${value}"`);
  }
  for (const name of Object.keys(meta?.annotations ?? {}))
    invalidUnless(qualifiedName.test(name), `annotation "${name}"`);
  invalidUnless(JSON.stringify(meta?.annotations ?? {}).length < annotationBytesMax, "metadata.annotations: too long");
}

function invalidUnless(holds: unknown, what: string): void {
  if (!holds) throw new Refusal(422, "Invalid", `Invalid value: ${what}`);
}

function refuseUnknown(path: string, value: unknown, fields: Fields): void {
  if (fields === "any" || value === undefined || value === null) return;
  if (fields === "map") {
    for (const [name, text] of Object.entries(value)) {
      if (typeof text !== "string") throw new Refusal(400, "BadRequest", `${path}.${name} is no text`);
    }
  } else if (isList(fields)) {
    for (const [index, each] of (value as unknown[]).entries()) refuseUnknown(`${path}[${index}]`, each, fields[0]);
  } else {
    for (const [name, part] of Object.entries(value)) {
      const known = fields[name];
      if (!known) throw new Refusal(400, "BadRequest", `strict decoding error: unknown field "${path}.${name}"`);
      refuseUnknown(`${path}.${name}`, part, known);
    }
  }
}

function isList(fields: Fields): fields is readonly [Fields] {
  return Array.isArray(fields);
}
