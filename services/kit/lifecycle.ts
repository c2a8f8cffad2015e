// From start to a graceful end: what every process of Drawbridge does with signals.
import type { Log } from "./log.ts";

export interface Running {
  /** Takes no new work, finishes what runs within `graceMs`, and releases everything. */
  stop(graceMs: number): Promise<void>;
  /** Resolves when the program has ended its work by itself, such as after a drain that was asked for over the network. */
  readonly ended?: Promise<void>;
}

export interface LifecycleOptions {
  /** Starts the program. The signal is aborted when the program is to end before it is up. */
  readonly start: (signal: AbortSignal) => Promise<Running>;
  /** Time for work in flight, in ms. */
  readonly graceMs: number;
  readonly log: Log;
  /** End when standard input ends: the parent holds its other end, so this is the parent's death. */
  readonly followParent?: boolean;
}

/** What asked the program to stop. */
type StopCause = "SIGTERM" | "SIGINT" | "parent ended" | "finished";

/**
 * Runs until SIGTERM, SIGINT, the parent's end, or `ended`; then stops with the grace. A second signal skips the grace. Resolves when
 * everything is released.
 */
export async function runUntilStopped(options: LifecycleOptions): Promise<void> {
  const starting = new AbortController();
  const { promise: asked, resolve: ask } = Promise.withResolvers<StopCause>();
  const { promise: hurried, resolve: hurry } = Promise.withResolvers<void>();
  let asks = 0;
  const onSignal = (cause: StopCause) => {
    asks += 1;
    if (asks > 1) hurry();
    ask(cause);
    starting.abort();
  };
  const onTerm = () => onSignal("SIGTERM");
  const onInterrupt = () => onSignal("SIGINT");
  const onParentEnd = () => {
    // Whoever started us is gone: nobody waits for an answer any more.
    hurry();
    onSignal("parent ended");
  };
  process.on("SIGTERM", onTerm).on("SIGINT", onInterrupt);
  if (options.followParent) process.stdin.on("end", onParentEnd).on("error", onParentEnd).resume();
  try {
    const running = await options.start(starting.signal);
    const finished = () => onSignal("finished");
    void running.ended?.then(finished, finished);
    const cause = await asked;
    options.log.info({ cause, grace_ms: options.graceMs }, "stopping");
    const gentle = running.stop(options.graceMs);
    await Promise.race([gentle, hurried]);
    await Promise.all([gentle, running.stop(0)]);
    options.log.info("stopped");
  } finally {
    process.off("SIGTERM", onTerm).off("SIGINT", onInterrupt);
    if (options.followParent) process.stdin.destroy();
  }
}
