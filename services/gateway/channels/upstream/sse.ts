// Server-sent events from bytes that are cut anywhere: nothing is held but the event that is not complete yet.
import { DrawbridgeError } from "../../../kit/errors.ts";

export interface ServerSentEvent {
  /** The event's name; "" for none. */
  readonly event: string;
  readonly data: string;
}

/** The longest event that is taken, in characters. */
const eventCharsMax = 8 << 20;

export interface EventParser {
  /** The events that these bytes complete. Throws where one is too long. */
  push(bytes: Uint8Array): ServerSentEvent[];
}

export function createEventParser(): EventParser {
  const decoder = new TextDecoder();
  let rest = "";
  let event = "";
  let data: string[] = [];
  let held = 0;

  const takeLine = (line: string, events: ServerSentEvent[]) => {
    if (line === "") {
      if (data.length > 0) events.push({ event, data: data.join("\n") });
      event = "";
      data = [];
      held = 0;
      return;
    }
    const colon = line.indexOf(":");
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? "" : line.slice(colon + (line[colon + 1] === " " ? 2 : 1));
    if (field === "data") {
      data.push(value);
      held += value.length;
    } else if (field === "event") event = value;
    // Comments, ids and retry times are between us and the upstream.
  };

  return {
    push(bytes) {
      const events: ServerSentEvent[] = [];
      rest += decoder.decode(bytes, { stream: true });
      let start = 0;
      for (;;) {
        const end = rest.indexOf("\n", start);
        if (end === -1) break;
        takeLine(rest.slice(start, rest[end - 1] === "\r" && end > start ? end - 1 : end), events);
        start = end + 1;
      }
      rest = rest.slice(start);
      if (rest.length + held > eventCharsMax) {
        throw new DrawbridgeError("AGENT_PROTOCOL", "The upstream sent an event that is too long.");
      }
      return events;
    },
  };
}
