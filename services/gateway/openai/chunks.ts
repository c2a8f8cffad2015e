// The frames of a streamed chat completion. What is the same in every chunk of a stream is made once.
import type { ToolCallDelta } from "#gen/drawbridge/v1/prompt";
import type { Usage } from "#gen/drawbridge/v1/usage";
import { type AnswerIdentity, type FinishReason, usageBody } from "./completion.ts";

export interface ChunkFrames {
  /** The first chunk: the role. */
  readonly first: string;
  text(text: string): string;
  reasoning(text: string): string;
  toolCall(delta: Pick<ToolCallDelta, "index" | "id" | "name" | "argumentsJson">): string;
  finish(reason: FinishReason): string;
  /** The chunk with usage and no choices; only for clients that asked for it. */
  usage(usage: Usage | undefined): string;
}

export const doneFrame = "data: [DONE]\n\n";
export const keepAliveFrame = ": ping\n\n";

export function errorFrame(body: object): string {
  return `data: ${JSON.stringify(body)}\n\n`;
}

export function createChunkFrames({ id, created, model }: AnswerIdentity, includeUsage: boolean): ChunkFrames {
  const head = `data: ${JSON.stringify({ id, object: "chat.completion.chunk", created, model }).slice(0, -1)}`;
  const open = `${head},"choices":[{"index":0,"delta":`;
  const tail = includeUsage ? '}],"usage":null}\n\n' : "}]}\n\n";
  const unfinished = `,"finish_reason":null${tail}`;
  const textOpen = `${open}{"content":`;
  const textClose = `}${unfinished}`;
  return {
    first: `${open}{"role":"assistant","content":""}${unfinished}`,
    text: (text) => textOpen + JSON.stringify(text) + textClose,
    reasoning: (text) => `${open}{"reasoning_content":${JSON.stringify(text)}}${unfinished}`,
    toolCall: (delta) => `${open}{"tool_calls":[${JSON.stringify(toolCallBody(delta))}]}${unfinished}`,
    finish: (reason) => `${open}{},"finish_reason":"${reason}"${tail}`,
    usage: (usage) => `${head},"choices":[],"usage":${JSON.stringify(usageBody(usage))}}\n\n`,
  };
}

/** The first piece of a call names it; the later ones have arguments only. */
function toolCallBody({ index, id, name, argumentsJson }: Parameters<ChunkFrames["toolCall"]>[0]) {
  if (id === "") return { index, function: { arguments: argumentsJson } };
  return { index, id, type: "function", function: { name, arguments: argumentsJson } };
}
