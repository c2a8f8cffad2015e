// The answer of a run, in the two forms that a client can ask for. Both take batches and end with the outcome.
import { type Finished, type PromptEvent, StopReason } from "#gen/drawbridge/v1/prompt";
import type { PromptResponse } from "#gen/drawbridge/v1/worker_service";
import { DrawbridgeError } from "../../kit/errors.ts";
import type { EventStream } from "../http/event-stream.ts";
import type { ChunkFrames } from "./chunks.ts";

/** Called once, with the first content or the end. */
export type OnFirst = () => void;

/** The most characters of a whole answer that are held; streamed answers have no such bound. */
const wholeAnswerCharsMax = 32 << 20;

export interface WholeAnswer {
  readonly text: string;
  readonly reasoning: string;
  readonly finished: Finished;
}

/** Collects a whole answer. */
export async function collect(batches: AsyncIterable<PromptResponse>, onFirst: OnFirst): Promise<WholeAnswer> {
  const text: string[] = [];
  const reasoning: string[] = [];
  let length = 0;
  let finished: Finished | undefined;
  let first = true;
  for await (const { events } of batches) {
    if (first) onFirst();
    first = false;
    for (const { event } of events) {
      if (event.case === "text" || event.case === "reasoning") {
        length += event.value.text.length;
        (event.case === "text" ? text : reasoning).push(event.value.text);
      } else if (event.case === "finished") finished = event.value;
    }
    if (length > wholeAnswerCharsMax) {
      throw new DrawbridgeError("AGENT_PROTOCOL", "The answer is too long to be given whole; ask for a stream.");
    }
  }
  return { text: text.join(""), reasoning: reasoning.join(""), finished: ended(finished) };
}

/** Passes an answer on as it comes, one write for each batch. The end is left to the caller, who settles before it. */
export async function pass(
  batches: AsyncIterable<PromptResponse>,
  stream: EventStream,
  frames: ChunkFrames,
  onFirst: OnFirst,
): Promise<Finished> {
  let finished: Finished | undefined;
  let first = true;
  for await (const { events } of batches) {
    let text = first ? frames.first : "";
    if (first) onFirst();
    first = false;
    for (const event of events) {
      text += frameOf(event, frames);
      if (event.event.case === "finished") finished = event.event.value;
    }
    if (text !== "" && !isCancelled(finished)) await stream.write(text);
  }
  return ended(finished);
}

function frameOf({ event }: PromptEvent, frames: ChunkFrames): string {
  if (event.case === "text") return event.value.text === "" ? "" : frames.text(event.value.text);
  if (event.case === "reasoning") return event.value.text === "" ? "" : frames.reasoning(event.value.text);
  return "";
}

function ended(finished: Finished | undefined): Finished {
  if (!finished) throw new DrawbridgeError("INTERNAL", "The run ended without an end.");
  return finished;
}

/** Whether nobody waits for the end. */
export function isCancelled(finished: Finished | undefined): boolean {
  return finished?.stopReason === StopReason.CANCELLED;
}
