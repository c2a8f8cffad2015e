// Everything that serves the prompts of one account: its processes, the sessions that they keep, and the turns that wait for tools.
import type { PoolStatus } from "#gen/drawbridge/v1/worker";
import type { Clock } from "../../kit/clock.ts";
import type { Log } from "../../kit/log.ts";
import type { WorkerSettings } from "../config.ts";
import type { Pool } from "../pool/pool.ts";
import type { AgentProfile } from "../profiles/profile.ts";
import { createHeldSessions, type HeldSessions } from "./held-sessions.ts";
import { createParkedTurns, type ParkedTurns } from "./parked-turns.ts";

export interface LaneOptions {
  readonly pool: Pool;
  readonly profile: AgentProfile;
  readonly config: WorkerSettings;
  readonly clock: Clock;
  readonly log: Log;
  /** Told when what the lane offers changed. */
  readonly onChange: () => void;
}

export interface Lane {
  readonly pool: Pool;
  readonly profile: AgentProfile;
  readonly held: HeldSessions;
  readonly parked: ParkedTurns;
  /** Why prompts with tools are refused; undefined: they are not. */
  readonly toolRefusal: string | undefined;
  /** The pool's status, with the conversations that can be continued here. */
  status(): PoolStatus;
}

/** What a status may list. */
const keysMax = 1_024;

export function createLane({ pool, profile, config, clock, log, onChange }: LaneOptions): Lane {
  const held = createHeldSessions({
    countMax: config.conversations_max,
    ageMaxMs: config.conversation_timeout,
    clock,
    log,
  });
  const parked = createParkedTurns({
    countMax: config.tools_parked_max,
    clock,
    log,
    onChange,
  });
  const variables = [...Object.keys(profile.values), ...Object.keys(pool.account.env)];
  const toolRefusal = profile.tools.refusal?.(Object.fromEntries(variables.map((name) => [name, "set"])));
  return {
    pool,
    profile,
    held,
    parked,
    toolRefusal,
    status() {
      const status = pool.status();
      status.conversations = [...parked.keys(), ...held.keys((agent) => pool.isReady(agent))].slice(0, keysMax);
      return status;
    },
  };
}
