// Starts what the conformance suite runs against, once for all its files, and ends it: a server, one behind Sentinels, and a Cluster.
import type { TestProject } from "vitest/node";
import { startValkey, startValkeyCluster, startValkeySentinels } from "../support/valkey.ts";

/** Store kinds and their addresses. */
export type ValkeyUrls = Readonly<Record<"valkey" | "valkey sentinel" | "valkey cluster", string>>;

declare module "vitest" {
  interface ProvidedContext {
    valkeyUrls: ValkeyUrls;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  await using starting = new AsyncDisposableStack();
  // One after the other: together they would be slower on few cores, and the first may have to install the server.
  const single = starting.use(await startValkey());
  const sentinel = starting.use(await startValkeySentinels());
  const cluster = starting.use(await startValkeyCluster());
  project.provide("valkeyUrls", { valkey: single.url, "valkey sentinel": sentinel.url, "valkey cluster": cluster.url });
  const resources = starting.move();
  return () => resources.disposeAsync();
}
