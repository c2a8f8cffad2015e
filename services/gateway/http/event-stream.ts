// Server-sent events to one client: headers with the first frame, no more in memory than the socket takes, comments while nothing is said.
import type { ServerResponse } from "node:http";
import type { Clock } from "../../kit/clock.ts";
import { keepAliveFrame } from "../openai/chunks.ts";

export interface EventStreamOptions {
  readonly response: ServerResponse;
  readonly headers: () => Readonly<Record<string, string | number>>;
  readonly clock: Clock;
  readonly keepAliveMs: number;
}

export interface EventStream extends Disposable {
  /** Whether the status is sent, so that an error can only be an event. */
  readonly opened: boolean;
  /** Sends frames as one write. Resolves when the client has room for more, or has left. */
  write(frames: string): Promise<void>;
  end(): void;
}

export function createEventStream({ response, headers, clock, keepAliveMs }: EventStreamOptions): EventStream {
  let opened = false;
  let timer: Disposable | undefined;
  const rest = () => {
    timer?.[Symbol.dispose]();
    timer = clock.after(keepAliveMs, () => {
      // A client that does not read gets no comments either.
      if (!response.writableNeedDrain && !response.writableEnded) response.write(keepAliveFrame);
      rest();
    });
  };
  return {
    get opened() {
      return opened;
    },
    async write(frames) {
      if (response.destroyed || response.writableEnded) return;
      if (!opened) {
        opened = true;
        response.writeHead(200, {
          ...headers(),
          "content-type": "text/event-stream; charset=utf-8",
          "cache-control": "no-cache",
          "x-accel-buffering": "no",
        });
      }
      rest();
      if (!response.write(frames)) await room(response);
    },
    end: () => void response.end(),
    [Symbol.dispose]: () => timer?.[Symbol.dispose](),
  };
}

/** Resolves when the socket takes more, or is gone. */
function room(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      response.off("drain", done).off("close", done);
      resolve();
    };
    response.on("drain", done).on("close", done);
    if (response.destroyed) done();
  });
}
