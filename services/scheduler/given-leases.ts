// The leases that this scheduler gave, by attempt: a repeated call gets the same one, and an attempt that is over gets none.
import { LRUCache } from "lru-cache";
import type { Lease } from "#gen/drawbridge/v1/scheduler_service";
import { DrawbridgeError } from "../kit/errors.ts";

export interface GivenLeases {
  /** The attempt's lease; undefined: it has none. LEASE_INVALID if the attempt is over. */
  find(attemptId: string): Lease | undefined;
  remember(lease: Lease): void;
  /** The attempt was reported. */
  end(attemptId: string): void;
}

/** Attempts that are remembered, the newest ones. */
const rememberedMax = 20_000;

export function createGivenLeases(): GivenLeases {
  const leases = new LRUCache<string, Lease | "over">({ max: rememberedMax });
  return {
    find(attemptId) {
      const lease = leases.get(attemptId);
      if (lease !== "over") return lease;
      throw new DrawbridgeError("LEASE_INVALID", `Attempt ${attemptId} is over; name a new one.`);
    },
    remember: (lease) => void leases.set(lease.attemptId, lease),
    end: (attemptId) => void leases.set(attemptId, "over"),
  };
}
