// The controller's settings. Durations are written like "30s" and read as milliseconds. `accounts` and `agents` stand beside them in the
// file; their schemas are in account-settings.ts.
import { z } from "zod";
import { duration } from "../kit/settings.ts";
import { dockerSettings, kubernetesSettings } from "./drivers/config.ts";

export { accountsSetting, accountSpecs, agentSpecs, agentsSetting } from "./account-settings.ts";

/** A leader steps down at this part of its lease, so that it has stopped acting when another one begins. */
export const stepDownFraction = 2 / 3;

export const controllerSettings = z
  .strictObject({
    /** What workers run as: child processes of the controller, containers, or Pods of a cluster. Default process. */
    driver: z.enum(["process", "docker", "kubernetes"]).default("process"),
    /** Where containers run, and how. */
    docker: dockerSettings,
    /** Where Pods run, and how. */
    kubernetes: kubernetesSettings,
    /** Accounts and workers are compared at least so often. Default 30s. */
    resync: duration().prefault("30s"),
    /** The least time between two comparisons that events ask for. Default 100ms. */
    event_gap: duration().prefault("100ms"),
    /** How long a leader leads without renewing. Default 60s. */
    leader_lease: duration().prefault("60s"),
    /** How often a leader renews. Less than two thirds of leader_lease. Default 20s. */
    leader_renew: duration().prefault("20s"),
    /** How often the others try to lead, besides when the lease ends or is given up; and a leader tries again that could not renew. Default 5s. */
    leader_retry: duration().prefault("5s"),
    /** How often each worker's health is asked. Default 5s. */
    health_interval: duration().prefault("5s"),
    /** Time for one answer. Default 2s. */
    health_timeout: duration().prefault("2s"),
    /** Checks without an answer, in a row, after which a worker is replaced. Default 3. */
    health_failures: z.int().min(1).max(100).default(3),
    /** Where more than half of the workers (three at least) stop answering at once, the network is to blame: they are replaced only after this. Default 60s. */
    mass_failure_wait: duration().prefault("60s"),
    /** Time for a new worker to register, and for one that says it is unhealthy to recover by itself; then it is replaced. Default 180s. */
    start_timeout: duration().prefault("180s"),
    /** Time for prompts in flight when a worker is drained; what still runs then is cancelled. Default 10m. */
    drain_grace: duration().prefault("10m"),
    /** A worker that failed is replaced at once; if its successor fails too, after this, doubled with each further failure. Default 1s. */
    backoff: duration().prefault("1s"),
    /** The longest of these waits. Default 60s. */
    backoff_max: duration().prefault("60s"),
    /** A worker that ran for so long counts as good: the next failure is the first again. Default 10s. */
    stable_after: duration().prefault("10s"),
    /** Nothing that a worker's silence or absence says is acted on while the registry has been known for less than this, nor after most workers vanished at once: two of the registry's lease_ttl. Default 30s. */
    registry_caution: duration().prefault("30s"),
    /** Workers beyond the wanted number while a changed account rolls. 0 needs unavailable to be 1 at least. Default 1. */
    surge: z.int().min(0).max(1_000).default(1),
    /** Workers that may be missing while a changed account rolls: so many old ones go before a new one is ready. Default 0. */
    unavailable: z.int().min(0).max(1_000).default(0),
    /** Another worker is started after prompts have waited for so long with no slot free. An account without workers starts its first one at once. Default 10s. */
    scale_up_after: duration().prefault("10s"),
    /** A worker beyond workers.min ends after the rest could have done its work for so long. Default 5m. */
    scale_down_after: duration().prefault("5m"),
    /** The rest could do a worker's work if it filled at most this part of the rest's slots: the less, the calmer. Default 0.8. */
    scale_down_load: z.number().min(0).max(1).default(0.8),
    /** With workers.min 0, the last worker ends after so long without a prompt. Default 15m. */
    scale_to_zero_after: duration().prefault("15m"),
    /** The least time between a change of an account's number of workers and a step the other way. Default 30s. */
    scale_cooldown: duration().prefault("30s"),
  })
  .refine(({ surge, unavailable }) => surge + unavailable > 0, {
    path: ["surge"],
    error: "expected at least 1, or unavailable to be at least 1: else nothing could ever roll",
  })
  .refine((settings) => settings.leader_renew < settings.leader_lease * stepDownFraction, {
    path: ["leader_renew"],
    error: "expected less than two thirds of leader_lease",
  })
  .prefault({});

export type ControllerSettings = z.output<typeof controllerSettings>;
