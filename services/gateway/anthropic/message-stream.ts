// The frames of a streamed message: blocks one after another, each with its start, its pieces and its stop.
import type { PromptEvent } from "#gen/drawbridge/v1/prompt";
import { namedFrame } from "../pipeline/frames.ts";
import type { StreamForm } from "../pipeline/endpoint.ts";
import { errorBodyOf } from "./errors.ts";
import { type MessageIdentity, messageHead, stopFields, usageBody } from "./message.ts";

export interface MessageStreamOptions {
  readonly identity: MessageIdentity;
  readonly inputTokensEstimate: number;
  readonly requestId: string;
}

export function createMessageStream({ identity, inputTokensEstimate, requestId }: MessageStreamOptions): StreamForm {
  const frame = (event: { readonly type: string }) => namedFrame(event.type, event);
  const blocks = createBlocks(frame);
  return {
    open() {
      const usage = { ...usageBody(undefined), input_tokens: inputTokensEstimate };
      const message = { ...messageHead(identity), content: [], stop_reason: null, stop_sequence: null, usage };
      return frame({ type: "message_start", message } as { type: string }) + frame({ type: "ping" });
    },
    event: ({ event }: PromptEvent) => {
      switch (event.case) {
        case "text":
          return blocks.piece("text", { type: "text", text: "" }, { type: "text_delta", text: event.value.text });
        case "reasoning": {
          if (!identity.thinking) return "";
          const start = { type: "thinking", thinking: "", signature: "" };
          return blocks.piece("thinking", start, { type: "thinking_delta", thinking: event.value.text });
        }
        case "toolCall": {
          const { index, id, name, argumentsJson } = event.value;
          const start = { type: "tool_use", id, name, input: {} };
          return blocks.piece(`tool ${index}`, start, { type: "input_json_delta", partial_json: argumentsJson });
        }
        default:
          return "";
      }
    },
    close(finished) {
      const usage = usageBody(finished.outcome?.usage);
      const end = { type: "message_delta", delta: stopFields(finished), usage };
      return blocks.stop() + frame(end) + frame({ type: "message_stop" });
    },
    fail: (error) => frame(errorBodyOf(error, requestId)),
  };
}

/** One block is open at a time. */
function createBlocks(frame: (event: { readonly type: string }) => string) {
  let index = -1;
  let open: string | undefined;
  const stop = () => {
    if (open === undefined) return "";
    open = undefined;
    return frame({ type: "content_block_stop", index } as { type: string });
  };
  return {
    /** A piece of the block of this name, which begins with it where it is not the open one. */
    piece(name: string, start: object, delta: object): string {
      let frames = "";
      if (open !== name) {
        frames = stop();
        open = name;
        index += 1;
        frames += frame({ type: "content_block_start", index, content_block: start } as { type: string });
      }
      return frames + frame({ type: "content_block_delta", index, delta } as { type: string });
    },
    stop,
  };
}
