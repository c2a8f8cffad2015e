// Turns that wait for their client's tools. Each keeps its process and takes no slot, so they are bounded in number and in time; a client that
// comes too late is answered by a new session with the transcript.
import type { Clock } from "../../kit/clock.ts";
import type { Log } from "../../kit/log.ts";
import { failure, type ToolCallInHand } from "../tools/tool-desk.ts";
import type { Turn } from "../turn/turn.ts";
import type { Metered } from "../turn/usage.ts";
import type { Seat } from "./seat.ts";

export interface ParkedTurn {
  readonly turn: Turn;
  readonly seat: Seat;
  /** The calls that the client was told of. */
  readonly calls: readonly ToolCallInHand[];
  /** What earlier answers of this turn were billed. */
  readonly billed: Metered;
}

export interface ParkedTurnsOptions {
  readonly countMax: number;
  readonly clock: Clock;
  readonly log: Log;
  /** Told when a turn was parked or ended. */
  readonly onChange: () => void;
}

export interface ParkedTurns {
  /** `forMs`: for how long at most. */
  park(key: string, parked: ParkedTurn, forMs: number): void;
  /** The turn that waits for this conversation: it is the caller's now. */
  take(key: string): ParkedTurn | undefined;
  /** Ends a turn that was taken and cannot go on. */
  end(parked: ParkedTurn, why: string): void;
  keys(): string[];
  /** Ends all. Resolves when their processes were given back. */
  drop(): Promise<void>;
}

interface Entry {
  readonly parked: ParkedTurn;
  release(): void;
}

export function createParkedTurns(options: ParkedTurnsOptions): ParkedTurns {
  const { countMax, clock, log } = options;
  /** The oldest first. */
  const entries = new Map<string, Entry>();
  const ending = new Set<Promise<void>>();

  function remove(key: string): ParkedTurn | undefined {
    const entry = entries.get(key);
    entry?.release();
    entries.delete(key);
    return entry?.parked;
  }

  function end({ turn, seat, calls }: ParkedTurn, why: string): void {
    log.info({ why }, "a turn that waited for its client's tools ends");
    for (const call of calls) call.answer(failure(why));
    const work = turn
      .abandon()
      .finally(() => seat.leave({ completed: false }))
      .finally(() => {
        ending.delete(work);
        options.onChange();
      });
    ending.add(work);
  }

  function drop(key: string, why: string): void {
    const parked = remove(key);
    if (parked) end(parked, why);
  }

  return {
    park(key, parked, forMs) {
      drop(key, "The same conversation waits elsewhere.");
      const [oldest] = entries.keys();
      if (entries.size >= countMax && oldest !== undefined) drop(oldest, "Too many results are waited for.");
      const { agent, desk } = parked.seat;
      const expiry = clock.after(forMs, () => drop(key, "The result did not come in time."));
      const onEnded = () => drop(key, "The agent process ended.");
      agent.ended.addEventListener("abort", onEnded, { once: true });
      desk?.onGivenUp(() => drop(key, "The agent waits no longer."));
      entries.set(key, {
        parked,
        release() {
          expiry[Symbol.dispose]();
          agent.ended.removeEventListener("abort", onEnded);
          desk?.onGivenUp(undefined);
        },
      });
      parked.seat.park(true);
      options.onChange();
    },
    take(key) {
      const parked = remove(key);
      parked?.seat.park(false);
      return parked;
    },
    end,
    keys: () => [...entries.keys()].reverse(),
    async drop() {
      for (const key of entries.keys()) drop(key, "The worker stops.");
      while (ending.size > 0) await Promise.all(ending);
    },
  };
}
