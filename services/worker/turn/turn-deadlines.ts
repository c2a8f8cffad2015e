// The deadlines inside a turn: the first sign of work, and the next one.
import type { Clock } from "../../kit/clock.ts";
import { DrawbridgeError } from "../../kit/errors.ts";

export interface ActivityOptions {
  readonly config: { readonly first_token_timeout: number; readonly idle_timeout: number };
  readonly clock: Clock;
  /** Whether the agent's output is left unread now, so that its silence is ours. */
  readonly agent: { readonly connection: { readonly paused: boolean } };
}

export interface Activity extends Disposable {
  /** A sign of life. */
  seen(): void;
  /** A sign of work on the prompt. */
  started(): void;
  /** The turn is over. */
  stop(): void;
}

/** `onLate` is told once, unless the watch was stopped. One timer, looked at when it fires, however many signs there are. */
export function watchActivity(
  { config, clock, agent }: ActivityOptions,
  onLate: (error: DrawbridgeError) => void,
): Activity {
  let working = false;
  let last = clock.monotonic();
  let timer: Disposable | undefined;
  const limitMs = () => (working ? config.idle_timeout : config.first_token_timeout);
  const check = () => {
    if (agent.connection.paused) last = clock.monotonic();
    const leftMs = last + limitMs() - clock.monotonic();
    if (leftMs > 0) timer = clock.after(leftMs, check);
    else onLate(late(working, limitMs()));
  };
  timer = clock.after(limitMs(), check);
  const stop = () => timer?.[Symbol.dispose]();
  return {
    seen() {
      if (working) last = clock.monotonic();
    },
    started() {
      last = clock.monotonic();
      if (working) return;
      working = true;
      stop();
      timer = clock.after(limitMs(), check);
    },
    stop,
    [Symbol.dispose]: stop,
  };
}

function late(working: boolean, ms: number): DrawbridgeError {
  const what = working ? "fell silent for" : "began no answer within";
  return new DrawbridgeError("DEADLINE_EXCEEDED", `The agent ${what} ${ms / 1_000} s.`);
}
