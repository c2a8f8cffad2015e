// Keeps a thread running: where one fails, the next one is started, until the store is closed.
import { systemClock } from "../../../kit/clock.ts";
import type { Log } from "../../../kit/log.ts";
import type { Link } from "./link.ts";

export interface SuperviseOptions {
  readonly start: () => Promise<Link>;
  /** The thread has ended; undefined: as it was asked to. */
  readonly onEnded: (error: unknown) => void;
  /** Another thread has taken over. */
  readonly onRestarted: () => void;
  readonly log: Log;
}

export interface Supervised {
  /** undefined: there is none at the moment. */
  link(): Link | undefined;
  /** Asks the thread to close the store. Resolves when it has ended. */
  stop(): Promise<void>;
}

/** Between two starts, in ms. */
const pauseMs = 1_000;

export function supervise(first: Link, { start, onEnded, onRestarted, log }: SuperviseOptions): Supervised {
  const stopping = new AbortController();
  let link: Link | undefined = first;

  async function restart(): Promise<Link | undefined> {
    for (;;) {
      try {
        await systemClock.sleep(pauseMs, stopping.signal);
        return await start();
      } catch (error) {
        if (stopping.signal.aborted) return undefined;
        log.error({ err: error }, "the store's thread could not be started; it is tried again");
      }
    }
  }

  async function keepRunning(): Promise<void> {
    while (link) {
      const { error } = await link.ended;
      link = undefined;
      onEnded(error);
      if (stopping.signal.aborted) return;
      log.error({ err: error }, "the store's thread failed; another one is started");
      link = await restart();
      if (!link) return;
      if (stopping.signal.aborted) close(link);
      else onRestarted();
    }
  }

  const close = (running: Link) => {
    running.keepAlive(true);
    running.tell({ kind: "close" });
  };
  const stopped = keepRunning();
  return {
    link: () => link,
    async stop() {
      if (link && !stopping.signal.aborted) close(link);
      stopping.abort();
      await stopped;
    },
  };
}
