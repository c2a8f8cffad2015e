// A run's batches, collected into a whole answer of bounded size.
import { type Finished, type PromptEvent, StopReason, type ToolCallDelta } from "#gen/drawbridge/v1/prompt";
import type { PromptResponse } from "#gen/drawbridge/v1/worker_service";
import { DrawbridgeError } from "../../kit/errors.ts";

/** A call of one of the client's tools, put together from its pieces. */
export type ToolCall = Pick<ToolCallDelta, "id" | "name" | "argumentsJson">;

export interface WholeAnswer {
  readonly text: string;
  readonly reasoning: string;
  readonly toolCalls: readonly ToolCall[];
  readonly finished: Finished;
  /** Whether it was cut, since it had more characters than an answer may have that is given whole. */
  readonly tooLong: boolean;
}

/** The most characters of an answer that is held as a whole. */
export const wholeCharsMax = 32 << 20;

export interface CollectOptions {
  /** The most characters that are held. */
  readonly charsMax: number;
  /** Called once, with the first content. */
  readonly onFirst: () => void;
  /** Called once, if the answer is too long. It is then read to its end without being held. */
  readonly onTooLong: () => void;
}

export async function collect(
  batches: AsyncIterable<PromptResponse>,
  { charsMax, onFirst, onTooLong }: CollectOptions,
): Promise<WholeAnswer> {
  const pieces = createPieces();
  let length = 0;
  let finished: Finished | undefined;
  for await (const { events } of batches) {
    for (const event of events) {
      const chars = contentChars(event);
      if (chars > 0 && length === 0) onFirst();
      if (length <= charsMax && length + chars > charsMax) onTooLong();
      length += chars;
      if (length <= charsMax) pieces.add(event);
      if (event.event.case === "finished") finished = event.event.value;
    }
  }
  return { ...pieces.joined(), finished: ended(finished), tooLong: length > charsMax };
}

export interface Pieces {
  add(event: PromptEvent): void;
  joined(): Pick<WholeAnswer, "text" | "reasoning" | "toolCalls">;
}

/** Puts an answer's content together. Whoever adds bounds what is added. */
export function createPieces(): Pieces {
  const text: string[] = [];
  const reasoning: string[] = [];
  const toolCalls = new Map<number, ToolCall>();
  return {
    add({ event }) {
      if (event.case === "text") text.push(event.value.text);
      else if (event.case === "reasoning") reasoning.push(event.value.text);
      else if (event.case === "toolCall") {
        const { index, id, name, argumentsJson } = event.value;
        const call = toolCalls.get(index);
        toolCalls.set(
          index,
          call ? { ...call, argumentsJson: call.argumentsJson + argumentsJson } : { id, name, argumentsJson },
        );
      }
    },
    joined: () => ({ text: text.join(""), reasoning: reasoning.join(""), toolCalls: [...toolCalls.values()] }),
  };
}

/** 0 for what clients are not told: `started`, the end, empty texts, and kinds that this version does not know. */
export function contentChars({ event }: PromptEvent): number {
  switch (event.case) {
    case "text":
    case "reasoning":
      return event.value.text.length;
    case "toolCall":
      return event.value.id.length + event.value.name.length + event.value.argumentsJson.length;
    default:
      return 0;
  }
}

/** A run always says its end. */
export function ended(finished: Finished | undefined): Finished {
  if (!finished) throw new DrawbridgeError("INTERNAL", "The run ended without an end.");
  return finished;
}

export function isCancelled({ stopReason }: Finished): boolean {
  return stopReason === StopReason.CANCELLED;
}
