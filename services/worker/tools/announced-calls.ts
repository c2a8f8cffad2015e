// What an agent said of its calls before it asks permission for one: some name the call only then, and ask by its id alone.
import type { Frame } from "../protocol/framing.ts";

export interface AnnouncedCalls {
  /** The `update` of a `session/update`. */
  hear(update: Frame): void;
  /** The call with all that is known of it; what is said now counts more. */
  complete(toolCall: Frame): Frame;
}

/** Calls that are remembered. */
const callsMax = 256;

export function createAnnouncedCalls(): AnnouncedCalls {
  const announced = new Map<string, Frame>();
  return {
    hear(update) {
      const id = update["toolCallId"];
      if (update["sessionUpdate"] !== "tool_call" || typeof id !== "string") return;
      announced.set(id, update);
      const [oldest] = announced.keys();
      if (announced.size > callsMax && oldest !== undefined) announced.delete(oldest);
    },
    complete: (toolCall) => ({ ...announced.get(String(toolCall["toolCallId"])), ...toolCall }),
  };
}
