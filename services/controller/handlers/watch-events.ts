// FleetService: what happened, then what happens. The log is read page by page as the watcher takes it, so nothing piles up here.
import type { HandlerDependencies } from "./dependencies.ts";
import { createTrigger } from "../trigger.ts";
import type { FleetHandlers } from "./fleet-handlers.ts";

const pageSize = 200;
/** The log is looked at so often without a hint too, and the watcher gets a sign of life. */
const signOfLifeMs = 15_000;

export function watchHandlers({ state, clock }: HandlerDependencies): Pick<FleetHandlers, "watchEvents"> {
  return {
    async *watchEvents({ afterRevision }, { signal }) {
      const trigger = createTrigger(clock);
      using _ = state.events.onChange(() => trigger.fire());
      let after = Number(afterRevision);
      if (after === 0) after = (await state.events.list(Number.MAX_SAFE_INTEGER, 1)).revision;
      for (;;) {
        const { events, revision } = await state.events.list(after, pageSize);
        if (revision < after) {
          // The store was emptied, and its log begins anew.
          after = 0;
          continue;
        }
        for (const event of events) {
          after = Number(event.revision);
          yield { event };
        }
        // An abort ends the stream with an error: returning would look like success.
        signal.throwIfAborted();
        if (events.length === pageSize) continue;
        const begunAt = clock.monotonic();
        await trigger.wait(signOfLifeMs, signal);
        signal.throwIfAborted();
        if (clock.monotonic() - begunAt >= signOfLifeMs) yield {};
      }
    },
  };
}
