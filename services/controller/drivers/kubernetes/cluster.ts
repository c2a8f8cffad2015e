// Which cluster the driver speaks to, and as whom: the Pod that the controller runs in, or a kubeconfig.
import { existsSync, readFileSync } from "node:fs";
import { KubeConfig } from "@kubernetes/client-node";
import { DrawbridgeError } from "../../../kit/errors.ts";
import type { KubernetesSettings } from "../config.ts";
import type { Environment } from "../worker-environment.ts";

export interface Cluster {
  readonly config: KubeConfig;
  readonly namespace: string;
}

const accountDirectory = "/var/run/secrets/kubernetes.io/serviceaccount";

/** `directory`: where a Pod has its service account; another one in tests. */
export function loadCluster(
  settings: Pick<KubernetesSettings, "kubeconfig" | "context" | "namespace">,
  environment: Environment,
  directory = accountDirectory,
): Cluster {
  const config = new KubeConfig();
  const inCluster = settings.kubeconfig === "" && environment["KUBERNETES_SERVICE_HOST"] !== undefined;
  try {
    if (settings.kubeconfig !== "") config.loadFromFile(settings.kubeconfig);
    else if (inCluster) config.loadFromCluster();
    else config.loadFromDefault();
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    const message = `controller.kubernetes.kubeconfig: ${why}. Name a kubeconfig file, or run the controller in a Pod with a service account.`;
    throw new DrawbridgeError("INVALID_ARGUMENT", message, { cause: error });
  }
  if (settings.context !== "") useContext(config, settings.context);
  const own = inCluster ? ownNamespace(directory) : config.getContextObject(config.getCurrentContext())?.namespace;
  return { config, namespace: settings.namespace || own || "default" };
}

function useContext(config: KubeConfig, name: string): void {
  if (!config.getContextObject(name)) {
    const message = `controller.kubernetes.context: the kubeconfig has no context "${name}".`;
    throw new DrawbridgeError("INVALID_ARGUMENT", message);
  }
  config.setCurrentContext(name);
}

function ownNamespace(directory: string): string | undefined {
  const file = `${directory}/namespace`;
  return existsSync(file) ? readFileSync(file, "utf8").trim() : undefined;
}
