// The epoch of the leader, in a ConfigMap that is changed by compare-and-set: a leader that has been replaced is refused, whichever controller acted
// last. The ConfigMap owns the Pods: deleting it deletes the fleet.
import type { V1ConfigMap, V1OwnerReference } from "@kubernetes/client-node";
import { DrawbridgeError } from "../../../kit/errors.ts";
import { createFence } from "../../../kit/fence.ts";
import type { KubernetesApi } from "./api.ts";
import { systemLabels } from "./names.ts";

export interface LeaderRecord {
  /** Writes the epoch down, unless a higher one stands there: NOT_LEADER. What it returns owns what the leader makes. */
  claim(epoch: number, signal: AbortSignal): Promise<V1OwnerReference>;
}

/** Each lost comparison means that another leader has won one. */
const triesMax = 10;

export function createLeaderRecord(api: KubernetesApi, system: string): LeaderRecord {
  const name = `${system}-leader`;
  const fence = createFence();

  /** undefined: somebody else was faster. */
  async function write(epoch: number, signal: AbortSignal): Promise<V1ConfigMap | undefined> {
    const present = await api.readConfigMap(name, signal);
    const metadata = { name, labels: systemLabels(system) };
    const data = { epoch: String(epoch) };
    if (!present) return await api.createConfigMap({ metadata, data }, signal);
    const held = Number(present.data?.["epoch"]);
    if (!Number.isSafeInteger(held)) {
      const message = `The ConfigMap ${name} holds no leader's epoch. Delete it (its Pods go with it), or give controller.kubernetes.system another name.`;
      throw new DrawbridgeError("INTERNAL", message);
    }
    createFence(held)(epoch);
    if (held === epoch) return present;
    const { resourceVersion } = present.metadata ?? {};
    return await api.replaceConfigMap({ metadata: { ...metadata, resourceVersion }, data }, signal);
  }

  return {
    async claim(epoch, signal) {
      fence(epoch);
      for (let tries = 0; tries < triesMax; tries++) {
        const uid = (await write(epoch, signal))?.metadata?.uid;
        if (uid !== undefined) return { apiVersion: "v1", kind: "ConfigMap", name, uid };
      }
      throw new DrawbridgeError("REVISION_CONFLICT", `The ConfigMap ${name} changes all the time. Look who writes it.`);
    },
  };
}
