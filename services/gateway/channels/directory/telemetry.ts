// What became of tries, published for whoever counts them.
import { channel } from "node:diagnostics_channel";

export interface ChannelTried {
  readonly channel: string;
  /** answered, refused (the request's own fault), failed (before content), broken (after it), or cancelled. */
  readonly result: string;
  readonly firstContentMs: number | undefined;
}

export const channelTried = channel("drawbridge:gateway:channel:tried");
