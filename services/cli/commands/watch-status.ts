// drawbridge status --watch: the fleet as it is, again and again, and at once when something happens, with what happened.
import type { FleetEvent } from "#gen/drawbridge/v1/fleet_service";
import type { Session } from "../client/command.ts";
import { tableText } from "../output/print.ts";
import { eventRow, statusRow } from "../output/rows.ts";
import { statusText } from "../output/status-text.ts";
import { eventView } from "../output/views.ts";
import type { Shell } from "../shell.ts";

export interface WatchStatusOptions extends Pick<Session, "fleet" | "print"> {
  readonly shell: Shell;
  /** Without an event, it is shown again after so long. */
  readonly intervalMs: number;
}

const clearScreen = "\u001b[H\u001b[2J";
/** Events that stay on a terminal's screen. */
const shownMax = 12;
/** Events between two looks; of more, the newest. */
const newMax = 1_000;
/** Many events in a row are shown together. */
const gatherMs = 200;

export async function watchStatus({ fleet, print, shell, intervalMs }: WatchStatusOptions): Promise<void> {
  const { output, now, sleep } = shell;
  const stopping = new AbortController();
  const fresh: FleetEvent[] = [];
  let happened = Promise.withResolvers<void>();
  const following = follow({ fleet, signal: stopping.signal, pause: () => sleep(intervalMs) }, (event) => {
    fresh.push(event);
    if (fresh.length > newMax) fresh.shift();
    happened.resolve();
  });
  let shown: FleetEvent[] = [];
  try {
    for (;;) {
      happened = Promise.withResolvers();
      const status = await fleet.getStatus({});
      const events = fresh.splice(0);
      shown = output.terminal ? [...shown, ...events].slice(-shownMax) : events;
      await print.object({ ...statusRow(status), events: events.map(eventRow) }, () => {
        const log = shown.length === 0 ? "" : `\n${tableText(shown, eventView, now())}`;
        const [before, after] = output.terminal ? [clearScreen, ""] : ["", "\n"];
        return before + statusText(status, now()) + log + after;
      });
      if (fresh.length === 0) await Promise.race([sleep(intervalMs), happened.promise]);
      await sleep(Math.min(gatherMs, intervalMs));
    }
  } finally {
    stopping.abort();
    await following;
  }
}

interface FollowOptions extends Pick<Session, "fleet"> {
  readonly signal: AbortSignal;
  readonly pause: () => Promise<void>;
}

/** New events, over breaks of the connection: whether the system is there at all, the status tells. */
async function follow({ fleet, signal, pause }: FollowOptions, onEvent: (event: FleetEvent) => void): Promise<void> {
  let afterRevision = 0n;
  while (!signal.aborted) {
    try {
      // A watch has no end of its own: 0 takes the usual time for an answer away.
      for await (const { event } of fleet.watchEvents({ afterRevision }, { signal, timeoutMs: 0 })) {
        if (!event) continue;
        afterRevision = event.revision;
        onEvent(event);
      }
    } catch {
      // It is begun again.
    }
    if (!signal.aborted) await pause();
  }
}
