// The two ways to take a run's batches: collected into a whole answer, or passed on as they come. Both end with the run's end.
import { type Finished, type PromptEvent, StopReason } from "#gen/drawbridge/v1/prompt";
import type { PromptResponse } from "#gen/drawbridge/v1/worker_service";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { EventStream } from "../http/event-stream.ts";
import type { ChunkFrames } from "./chunks.ts";
import type { ToolCall } from "./completion.ts";

export interface WholeAnswer {
  readonly text: string;
  readonly reasoning: string;
  readonly toolCalls: readonly ToolCall[];
  readonly finished: Finished;
  /** Whether it was cut, since it had more characters than an answer may have that is given whole. */
  readonly tooLong: boolean;
}

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
  const text: string[] = [];
  const reasoning: string[] = [];
  const toolCalls = new Map<number, ToolCall>();
  let length = 0;
  let finished: Finished | undefined;
  const hold = ({ event }: PromptEvent) => {
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
  };
  for await (const { events } of batches) {
    for (const event of events) {
      const chars = contentChars(event);
      if (chars > 0 && length === 0) onFirst();
      if (length <= charsMax && length + chars > charsMax) onTooLong();
      length += chars;
      if (length <= charsMax) hold(event);
      if (event.event.case === "finished") finished = event.event.value;
    }
  }
  return {
    text: text.join(""),
    reasoning: reasoning.join(""),
    toolCalls: [...toolCalls.values()],
    finished: ended(finished),
    tooLong: length > charsMax,
  };
}

/** One write for each batch. The end is left to the caller, who settles before it. */
export async function pass(
  batches: AsyncIterable<PromptResponse>,
  stream: EventStream,
  frames: ChunkFrames,
  onFirst: () => void,
): Promise<Finished> {
  let finished: Finished | undefined;
  let first = true;
  for await (const { events } of batches) {
    let text = "";
    for (const event of events) {
      text += frameOf(event, frames);
      if (event.event.case === "finished") finished = event.event.value;
    }
    if (text === "") continue;
    if (first) {
      onFirst();
      text = frames.first + text;
    }
    first = false;
    await stream.write(text);
  }
  return ended(finished);
}

function contentChars({ event }: PromptEvent): number {
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

/** "" for what clients are not told: `started`, the end, empty texts, and kinds that this version does not know. */
function frameOf(event: PromptEvent, frames: ChunkFrames): string {
  if (contentChars(event) === 0) return "";
  const { event: content } = event;
  switch (content.case) {
    case "text":
      return frames.text(content.value.text);
    case "reasoning":
      return frames.reasoning(content.value.text);
    case "toolCall":
      return frames.toolCall(content.value);
    default:
      return "";
  }
}

function ended(finished: Finished | undefined): Finished {
  if (!finished) throw new DrawbridgeError("INTERNAL", "The run ended without an end.");
  return finished;
}

export function isCancelled({ stopReason }: Finished): boolean {
  return stopReason === StopReason.CANCELLED;
}
