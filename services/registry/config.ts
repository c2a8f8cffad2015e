// The registry's settings. Durations are written like "15s" and read as milliseconds.
import { z } from "zod";
import { duration } from "../kit/settings.ts";

export const registrySettings = z
  .strictObject({
    /** How often a worker beats. Default 5s. */
    heartbeat_interval: duration().prefault("5s"),
    /** Without a beat for so long, a worker is gone. More than two intervals. Default 15s. */
    lease_ttl: duration().prefault("15s"),
    /** How often workers whose leases ended are taken out; watchers see a death within this time at the latest. Default 1s. */
    prune_interval: duration().prefault("1s"),
    /** How far a heartbeat moves the leases of the prompts that its worker runs. Default 60s. */
    prompt_lease_ttl: duration().prefault("60s"),
    /** How long outcomes are remembered for the sweeps. Default 24h. */
    outcome_ttl: duration().prefault("24h"),
    /** A watch that has nothing to say says so after so long. Default 10s. */
    bookmark_interval: duration().prefault("10s"),
  })
  .refine((settings) => settings.lease_ttl > 2 * settings.heartbeat_interval, {
    path: ["lease_ttl"],
    message: "expected more than two heartbeat intervals, so that one lost beat takes nobody out",
  })
  .prefault({});

export type RegistrySettings = z.output<typeof registrySettings>;
