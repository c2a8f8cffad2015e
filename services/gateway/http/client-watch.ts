// Whether the client is still there.
import type { ServerResponse } from "node:http";

export interface ClientWatch extends Disposable {
  /** Aborted when nobody wants the answer any more: the client has left, or `stop` was called. */
  readonly signal: AbortSignal;
  /** Whether the connection closed before the answer was sent. */
  readonly left: boolean;
  /** Ends the work without the client having left. */
  stop(): void;
}

export function watchClient(response: ServerResponse): ClientWatch {
  const controller = new AbortController();
  const hasLeft = () => response.destroyed && !response.writableFinished;
  const onClose = () => {
    if (hasLeft()) controller.abort();
  };
  response.on("close", onClose);
  onClose();
  return {
    signal: controller.signal,
    get left() {
      return hasLeft();
    },
    stop: () => controller.abort(),
    [Symbol.dispose]: () => void response.off("close", onClose),
  };
}
