// The frames of a streamed chat completion. What is the same in every chunk of a stream is made once.
import { StopReason } from "#gen/drawbridge/v1/prompt";
import type { Usage } from "#gen/drawbridge/v1/usage";

export interface AnswerIdentity {
  /** chatcmpl-… */
  readonly id: string;
  /** Seconds since 1970. */
  readonly created: number;
  readonly model: string;
}

export type FinishReason = "stop" | "length" | "tool_calls" | "content_filter";

export interface ChunkFrames {
  /** The first chunk: the role. */
  readonly first: string;
  text(text: string): string;
  reasoning(text: string): string;
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
  const head = JSON.stringify({ id, object: "chat.completion.chunk", created, model }).slice(0, -1);
  const tail = includeUsage ? ',"usage":null}\n\n' : "}\n\n";
  const frame = (delta: string, finish: string) =>
    `data: ${head},"choices":[{"index":0,"delta":${delta},"finish_reason":${finish}}]${tail}`;
  return {
    first: frame('{"role":"assistant","content":""}', "null"),
    text: (text) => frame(`{"content":${JSON.stringify(text)}}`, "null"),
    reasoning: (text) => frame(`{"reasoning_content":${JSON.stringify(text)}}`, "null"),
    finish: (reason) => frame("{}", `"${reason}"`),
    usage: (usage) => `data: ${head},"choices":[],"usage":${JSON.stringify(usageBody(usage))}}\n\n`,
  };
}

export function finishReason(stopReason: StopReason): FinishReason {
  switch (stopReason) {
    case StopReason.MAX_TOKENS:
      return "length";
    case StopReason.TOOL_CALLS:
      return "tool_calls";
    case StopReason.REFUSAL:
      return "content_filter";
    default:
      return "stop";
  }
}

export function usageBody(usage: Usage | undefined) {
  const prompt = Number(usage?.inputTokens ?? 0n);
  const completion = Number(usage?.outputTokens ?? 0n);
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_tokens_details: { cached_tokens: Number(usage?.cachedInputTokens ?? 0n) },
    completion_tokens_details: { reasoning_tokens: Number(usage?.reasoningTokens ?? 0n) },
  };
}

/** A whole answer. */
export function completionBody(
  { id, created, model }: AnswerIdentity,
  answer: {
    readonly text: string;
    readonly reasoning: string;
    readonly finish: FinishReason;
    readonly usage: Usage | undefined;
  },
) {
  return {
    id,
    object: "chat.completion",
    created,
    model,
    choices: [
      {
        index: 0,
        message: {
          role: "assistant",
          content: answer.text,
          refusal: null,
          ...(answer.reasoning === "" ? {} : { reasoning_content: answer.reasoning }),
        },
        logprobs: null,
        finish_reason: answer.finish,
      },
    ],
    usage: usageBody(answer.usage),
  };
}
