// Names and labels by which a system knows its Pods. Pure.
import { createHash } from "node:crypto";

export const label = {
  managedBy: "app.kubernetes.io/managed-by",
  system: "app.kubernetes.io/instance",
  component: "app.kubernetes.io/component",
  worker: "drawbridge/worker",
  account: "drawbridge/account",
  epoch: "drawbridge/epoch",
} as const;

/** The WorkerSpec in JSON, with its references as they are in the desired state. */
export const specAnnotation = "drawbridge/spec";

/** The limit of labels, and of the host name that a Pod takes from its name. */
const lengthMax = 63;
const digestLength = 10;

export function podName(system: string, workerId: string): string {
  return shortened(`${system}-${workerId}`, /[^a-z0-9-]/g, "-");
}

/** A label's value that stands for an id: the id itself where it may be one. The spec has the exact one. */
export function labelValue(id: string): string {
  return shortened(id, /[^A-Za-z0-9._-]/g, "_");
}

/** Different for different texts: one that has to be changed gets a digest. Begins and ends with a letter or a digit. */
function shortened(text: string, unsafe: RegExp, replacement: string): string {
  const safe = text.replaceAll(unsafe, replacement).replaceAll(/^[^A-Za-z0-9]+|[^A-Za-z0-9]+$/g, "");
  if (safe === text && text.length <= lengthMax) return text;
  const digest = createHash("sha256").update(text).digest("hex").slice(0, digestLength);
  const start = safe.slice(0, lengthMax - digestLength - 1).replace(/[^A-Za-z0-9]+$/, "");
  return start === "" ? digest : `${start}-${digest}`;
}

export function systemLabels(system: string): Record<string, string> {
  return { [label.managedBy]: "drawbridge", [label.system]: system };
}

export function workerLabels(system: string): Record<string, string> {
  return { ...systemLabels(system), [label.component]: "worker" };
}

/** Finds all workers of a system, and nothing else. */
export function workerSelector(system: string): string {
  return Object.entries(workerLabels(system))
    .map(([name, value]) => `${name}=${value}`)
    .join(",");
}
