// Server-sent events to one client: headers with the first frame or when that takes long, no more in memory than the socket takes, comments while nothing is said.
import type { ServerResponse } from "node:http";
import type { Clock } from "../../kit/clock.ts";
import { oneLine } from "../../kit/one-line.ts";
import { keepAliveFrame } from "../openai/chunks.ts";

export interface EventStreamOptions {
  readonly response: ServerResponse;
  readonly headers: () => Readonly<Record<string, string | number>>;
  readonly clock: Clock;
  readonly keepAliveMs: number;
  /** Where nothing was written for so long, the headers leave all the same, with a comment. */
  readonly firstWaitMs: number;
  /** A client that takes nothing for so long is disconnected. */
  readonly stallMs: number;
}

export interface EventStream extends Disposable {
  /** Whether the status is sent, so that an error can only be an event. */
  readonly opened: boolean;
  /** Sends frames as one write. Resolves when the client has room for more, or has left. */
  write(frames: string): Promise<void>;
  end(): void;
}

export function createEventStream(options: EventStreamOptions): EventStream {
  const { response, headers, clock, keepAliveMs, firstWaitMs } = options;
  // A try before this one may have waited long enough to open it.
  let opened = response.headersSent;
  let timer: Disposable | undefined;
  const gone = () => response.destroyed || response.writableEnded;
  const open = () => {
    if (opened) return;
    opened = true;
    response.writeHead(200, {
      ...headers(),
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
      "x-accel-buffering": "no",
    });
  };
  const commentAfter = (ms: number) => {
    timer?.[Symbol.dispose]();
    timer = clock.after(ms, () => {
      if (gone()) return;
      open();
      // A client that does not read gets no comments either.
      if (!response.writableNeedDrain) response.write(keepAliveFrame);
      commentAfter(keepAliveMs);
    });
  };
  commentAfter(firstWaitMs);
  return {
    get opened() {
      return opened;
    },
    async write(frames) {
      if (gone()) return;
      open();
      commentAfter(keepAliveMs);
      if (!response.write(oneLine(frames))) await room(options);
    },
    end: () => void response.end(),
    [Symbol.dispose]: () => timer?.[Symbol.dispose](),
  };
}

/** Resolves when the socket takes more, or is gone. */
async function room({ response, clock, stallMs }: EventStreamOptions): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const done = () => resolve();
  response.on("drain", done).on("close", done);
  using _stalled = clock.after(stallMs, () => response.destroy());
  if (response.destroyed) done();
  await promise;
  response.off("drain", done).off("close", done);
}
