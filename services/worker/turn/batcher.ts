// Between an agent that streams and a caller that reads: while nobody takes, adjacent deltas merge, so load makes messages larger and not
// more, and beyond a limit the agent's output is left unread.
import { create } from "@bufbuild/protobuf";
import { type PromptEvent, PromptEventSchema } from "#gen/drawbridge/v1/prompt";
import type { DrawbridgeError } from "../../kit/errors.ts";

export type Delta = "text" | "reasoning";

export interface BatcherOptions {
  /** Characters that wait to be taken before `onPressure(true)`. */
  readonly charsMax: number;
  /** true: stop producing; false: go on. */
  readonly onPressure: (high: boolean) => void;
}

export interface Batcher {
  /** Adds an event that merges with nothing. */
  add(event: PromptEvent["event"]): void;
  delta(kind: Delta, text: string): void;
  /** No more events; what is there can still be taken. */
  end(): void;
  /** The same, and whoever has taken everything gets the error. */
  fail(error: DrawbridgeError): void;
  /** All events that wait, or the next ones. undefined: the end. One call at a time. */
  take(): Promise<PromptEvent[] | undefined>;
}

export function createBatcher({ charsMax, onPressure }: BatcherOptions): Batcher {
  let events: PromptEvent[] = [];
  // The last event while it may still grow: its text is joined once, when it is taken.
  let open: { kind: Delta; parts: string[] } | undefined;
  let chars = 0;
  let ended = false;
  let error: DrawbridgeError | undefined;
  let high = false;
  let wake: (() => void) | undefined;

  const press = (next: boolean) => {
    if (high === next) return;
    high = next;
    onPressure(next);
  };
  const signal = () => {
    wake?.();
    wake = undefined;
  };
  const close = () => {
    if (open)
      events.push(create(PromptEventSchema, { event: { case: open.kind, value: { text: open.parts.join("") } } }));
    open = undefined;
  };
  return {
    add(event) {
      close();
      events.push(create(PromptEventSchema, { event }));
      signal();
    },
    delta(kind, text) {
      if (open?.kind !== kind) {
        close();
        open = { kind, parts: [] };
      }
      open.parts.push(text);
      chars += text.length;
      if (chars > charsMax) press(true);
      signal();
    },
    end() {
      ended = true;
      signal();
    },
    fail(reason) {
      ended = true;
      error = reason;
      signal();
    },
    async take() {
      while (events.length === 0 && !open) {
        if (error) throw error;
        if (ended) return undefined;
        await new Promise<void>((resolve) => (wake = resolve));
      }
      close();
      const taken = events;
      events = [];
      chars = 0;
      press(false);
      return taken;
    },
  };
}
