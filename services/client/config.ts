// The settings of retries, which whoever runs prompts through the fleet client has in its own configuration.
import { z } from "zod";
import type { FleetClientSettings } from "./client.ts";

export const retrySettings = z.strictObject({
  /** Attempts for one request, the first included. Default 3. */
  attempts: z.int().min(1).max(16).default(3),
  /** Retries, as a share of the requests, from 0 to 1. Default 0.2. */
  share: z.number().min(0).max(1).default(0.2),
  /** Retries at once, beside that share. Default 10. */
  burst: z.int().min(0).max(10_000).default(10),
  /** Retries of the burst that come back in a second. Default 1. */
  per_second: z.number().min(0).max(1_000).default(1),
});

export function fleetClientSettings({ attempts, share, burst, per_second }: z.output<typeof retrySettings>) {
  return {
    attemptsMax: attempts,
    retryShare: share,
    retryBurst: burst,
    retryPerSecond: per_second,
  } satisfies Partial<FleetClientSettings>;
}
