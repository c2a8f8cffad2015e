// The body of a whole chat completion, and what a streamed one shares with it.
import { StopReason } from "#gen/drawbridge/v1/prompt";
import type { Usage } from "#gen/drawbridge/v1/usage";
import type { ToolCall } from "../pipeline/collect.ts";

export interface AnswerIdentity {
  /** chatcmpl-… */
  readonly id: string;
  /** Seconds since 1970. */
  readonly created: number;
  readonly model: string;
}

export type FinishReason = "stop" | "length" | "tool_calls" | "content_filter";

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

export interface CompletionContent {
  readonly text: string;
  readonly reasoning: string;
  readonly toolCalls: readonly ToolCall[];
  readonly finish: FinishReason;
  readonly usage: Usage | undefined;
}

export function completionBody({ id, created, model }: AnswerIdentity, content: CompletionContent) {
  const { text, reasoning, toolCalls, finish, usage } = content;
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
          // As OpenAI has it: an answer that only calls tools has no content.
          content: text === "" && toolCalls.length > 0 ? null : text,
          refusal: null,
          ...(reasoning === "" ? {} : { reasoning_content: reasoning }),
          ...(toolCalls.length === 0 ? {} : { tool_calls: toolCalls.map(toolCallBody) }),
        },
        logprobs: null,
        finish_reason: finish,
      },
    ],
    usage: usageBody(usage),
  };
}

function toolCallBody({ id, name, argumentsJson }: ToolCall) {
  return { id, type: "function", function: { name, arguments: argumentsJson } };
}
