// The output of a response as it grows: items one after another, and the events that tell of them.
import type { PromptEvent } from "#gen/drawbridge/v1/prompt";
import { newId } from "../../kit/random.ts";
import { contentChars, wholeCharsMax } from "../pipeline/collect.ts";
import { type OutputItem, outputText } from "./response.ts";

/** An event without its sequence number. */
export interface OutputEvent {
  readonly type: string;
  readonly [field: string]: unknown;
}

export interface Output {
  /** What an event of the answer is to the client. */
  add(event: PromptEvent): OutputEvent[];
  /** Ends the item that is open. */
  close(): OutputEvent[];
  /** The items that have ended. */
  readonly items: readonly OutputItem[];
  /** Whether there is more than is held. Nothing is added then. */
  readonly tooLong: boolean;
}

/** One kind of item: its events from the first to the last. */
interface Kind {
  readonly name: string;
  begin(): OutputEvent[];
  piece(delta: string): OutputEvent;
  end(whole: string): { readonly events: OutputEvent[]; readonly item: OutputItem };
}

interface OpenItem {
  readonly kind: Kind;
  readonly pieces: string[];
}

export function createOutput(): Output {
  const items: OutputItem[] = [];
  let open: OpenItem | undefined;
  let chars = 0;
  const close = (): OutputEvent[] => {
    if (!open) return [];
    const { events, item } = open.kind.end(open.pieces.join(""));
    open = undefined;
    const index = items.push(item) - 1;
    return [...events, { type: "response.output_item.done", output_index: index, item }];
  };
  return {
    add(event) {
      chars += contentChars(event);
      if (chars > wholeCharsMax) return [];
      const piece = pieceOf(event);
      if (!piece) return [];
      const events: OutputEvent[] = [];
      if (open?.kind.name !== piece.name) {
        events.push(...close());
        open = { kind: piece.kind(items.length), pieces: [] };
        events.push(...open.kind.begin());
      }
      open.pieces.push(piece.delta);
      if (piece.delta !== "") events.push(open.kind.piece(piece.delta));
      return events;
    },
    close,
    items,
    get tooLong() {
      return chars > wholeCharsMax;
    },
  };
}

interface Piece {
  /** Of the item that it belongs to. */
  readonly name: string;
  readonly delta: string;
  kind(outputIndex: number): Kind;
}

function pieceOf({ event }: PromptEvent): Piece | undefined {
  switch (event.case) {
    case "text":
      return { name: "text", delta: event.value.text, kind: textKind };
    case "reasoning":
      return { name: "reasoning", delta: event.value.text, kind: reasoningKind };
    case "toolCall": {
      const { index, id, name, argumentsJson } = event.value;
      return { name: `call ${index}`, delta: argumentsJson, kind: (at) => callKind(`call ${index}`, id, name, at) };
    }
    default:
      return undefined;
  }
}

function added(output_index: number, item: object): OutputEvent {
  return { type: "response.output_item.added", output_index, item };
}

function textKind(output_index: number): Kind {
  const id = newId("msg");
  const head = { id, type: "message", role: "assistant" } as const;
  const place = { item_id: id, output_index, content_index: 0 };
  return {
    name: "text",
    begin: () => [
      added(output_index, { ...head, status: "in_progress", content: [] }),
      { type: "response.content_part.added", ...place, part: outputText("") },
    ],
    piece: (delta) => ({ type: "response.output_text.delta", ...place, delta, logprobs: [] }),
    end: (text) => ({
      events: [
        { type: "response.output_text.done", ...place, text, logprobs: [] },
        { type: "response.content_part.done", ...place, part: outputText(text) },
      ],
      item: { ...head, status: "completed", content: [outputText(text)] },
    }),
  };
}

function reasoningKind(output_index: number): Kind {
  const id = newId("rs");
  const head = { id, type: "reasoning" } as const;
  const place = { item_id: id, output_index, summary_index: 0 };
  const part = (text: string) => ({ type: "summary_text", text }) as const;
  return {
    name: "reasoning",
    begin: () => [
      added(output_index, { ...head, summary: [] }),
      { type: "response.reasoning_summary_part.added", ...place, part: part("") },
    ],
    piece: (delta) => ({ type: "response.reasoning_summary_text.delta", ...place, delta }),
    end: (text) => ({
      events: [
        { type: "response.reasoning_summary_text.done", ...place, text },
        { type: "response.reasoning_summary_part.done", ...place, part: part(text) },
      ],
      item: { ...head, summary: [part(text)] },
    }),
  };
}

function callKind(kindName: string, callId: string, name: string, output_index: number): Kind {
  const id = newId("fc");
  const head = { id, type: "function_call", call_id: callId, name } as const;
  const place = { item_id: id, output_index };
  return {
    name: kindName,
    begin: () => [added(output_index, { ...head, status: "in_progress", arguments: "" })],
    piece: (delta) => ({ type: "response.function_call_arguments.delta", ...place, delta }),
    end: (text) => ({
      events: [{ type: "response.function_call_arguments.done", ...place, name, arguments: text }],
      item: { ...head, status: "completed", arguments: text },
    }),
  };
}
