// The leases that this scheduler gave, by attempt: a repeated call gets the same one, and an attempt that is over gets none.
import { LRUCache } from "lru-cache";
import type { Lease } from "#gen/drawbridge/v1/scheduler_service";
import { DrawbridgeError } from "../kit/errors.ts";
import type { Candidate } from "./fleet/candidate.ts";

export interface GivenLease {
  readonly lease: Lease;
  readonly model: string;
  readonly candidate: Candidate;
  /** It took a probe of the account's breaker. */
  readonly probe: boolean;
}

export interface GivenLeases {
  /** The attempt's lease, from `give` where it has none yet. LEASE_INVALID if the attempt is over. */
  once(attemptId: string, give: () => Promise<GivenLease>): Promise<Lease>;
  /** What was given to an attempt that is not over. */
  find(attemptId: string): GivenLease | undefined;
  /** The same, once it is known what becomes of a lease that is on its way. */
  findSoon(attemptId: string): Promise<GivenLease | undefined>;
  /** The attempt was reported. What was given, if it was open until now. */
  end(attemptId: string): GivenLease | undefined;
}

/** Attempts that are remembered, the newest ones. */
const rememberedMax = 20_000;

export function createGivenLeases(): GivenLeases {
  const leases = new LRUCache<string, GivenLease | "over">({ max: rememberedMax });
  const coming = new Map<string, Promise<GivenLease>>();
  const find = (attemptId: string) => {
    const known = leases.get(attemptId);
    return known === "over" ? undefined : known;
  };
  return {
    async once(attemptId, give) {
      const known = leases.get(attemptId);
      if (known === "over") throw new DrawbridgeError("LEASE_INVALID", `Attempt ${attemptId} is over; name a new one.`);
      if (known) return known.lease;
      let given = coming.get(attemptId);
      if (!given) {
        given = give().finally(() => coming.delete(attemptId));
        coming.set(attemptId, given);
        void given.then(
          (each) => leases.set(attemptId, each),
          () => {
            // Whoever waits for it hears of it.
          },
        );
      }
      return (await given).lease;
    },
    find,
    async findSoon(attemptId) {
      // One that is refused is none.
      await coming.get(attemptId)?.catch(() => undefined);
      return find(attemptId);
    },
    end(attemptId) {
      const known = find(attemptId);
      leases.set(attemptId, "over");
      return known;
    },
  };
}
