// Sessions of finished turns, kept for the next request of their conversation. A held session takes no slot: its process runs other prompts
// meanwhile. It ends with its process, after a time without use, or when there are too many.
import type { Clock } from "../../kit/clock.ts";
import type { Log } from "../../kit/log.ts";
import type { Agent } from "../protocol/agent.ts";
import type { LiveSession } from "./live-session.ts";

export interface HeldSessionsOptions {
  /** Sessions at a time; 0: none is kept. */
  readonly countMax: number;
  /** How long one is kept. */
  readonly ageMaxMs: number;
  readonly clock: Clock;
  readonly log: Log;
}

export interface HeldSessions {
  /** Whether any is kept at all. */
  readonly enabled: boolean;
  hold(key: string, live: LiveSession): void;
  /** The process that holds a conversation; undefined: none. */
  holder(key: string): Agent | undefined;
  /** The conversation's session, if this process holds it: it is the caller's now. */
  take(key: string, agent: Agent): LiveSession | undefined;
  /** Keys of the conversations whose process passes, the most recent first. */
  keys(passes: (agent: Agent) => boolean): string[];
  /** Closes all. Resolves when they are closed. */
  drop(): Promise<void>;
}

interface Held {
  readonly live: LiveSession;
  /** Ends the watch over its age and its process. */
  release(): void;
}

export function createHeldSessions({ countMax, ageMaxMs, clock, log }: HeldSessionsOptions): HeldSessions {
  /** The oldest first. */
  const held = new Map<string, Held>();
  const closing = new Set<Promise<void>>();

  function remove(key: string): LiveSession | undefined {
    const entry = held.get(key);
    entry?.release();
    held.delete(key);
    return entry?.live;
  }

  function close({ agent, session, desk }: LiveSession): void {
    desk?.[Symbol.dispose]();
    if (agent.ended.aborted) return;
    const work = agent
      .closeSession(session)
      .catch((error: unknown) => log.warn({ err: error }, "a kept session could not be closed"))
      .finally(() => closing.delete(work));
    closing.add(work);
  }

  function evict(key: string): void {
    const live = remove(key);
    if (live) close(live);
  }

  return {
    enabled: countMax > 0,
    hold(key, live) {
      // Two answers may be the same, word for word: the later session takes the place of the earlier one.
      evict(key);
      const { ended } = live.agent;
      const onEnded = () => evict(key);
      const expiry = clock.after(ageMaxMs, onEnded);
      ended.addEventListener("abort", onEnded, { once: true });
      held.set(key, {
        live,
        release() {
          expiry[Symbol.dispose]();
          ended.removeEventListener("abort", onEnded);
        },
      });
      const [oldest] = held.keys();
      if (held.size > countMax && oldest !== undefined) evict(oldest);
    },
    holder: (key) => held.get(key)?.live.agent,
    take: (key, agent) => (held.get(key)?.live.agent === agent ? remove(key) : undefined),
    keys: (passes) => [...held].flatMap(([key, { live }]) => (passes(live.agent) ? [key] : [])).reverse(),
    async drop() {
      for (const key of held.keys()) evict(key);
      await Promise.all(closing);
    },
  };
}
