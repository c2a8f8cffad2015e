// The response object: what a whole answer is, and what the events of a streamed one carry.
import { create } from "@bufbuild/protobuf";
import { type Finished, type Message, MessageSchema, Role, StopReason } from "#gen/drawbridge/v1/prompt";
import type { Usage } from "#gen/drawbridge/v1/usage";
import { textPart } from "../pipeline/prompt.ts";
import type { ResponseRequest } from "./schema.ts";

export type ItemStatus = "in_progress" | "completed" | "incomplete";

export interface MessageItem {
  readonly id: string;
  readonly type: "message";
  readonly status: ItemStatus;
  readonly role: "assistant";
  readonly content: readonly OutputText[];
}

export interface OutputText {
  readonly type: "output_text";
  readonly text: string;
  readonly annotations: readonly never[];
  readonly logprobs: readonly never[];
}

export interface ReasoningItem {
  readonly id: string;
  readonly type: "reasoning";
  readonly summary: readonly { readonly type: "summary_text"; readonly text: string }[];
}

export interface FunctionCallItem {
  readonly id: string;
  readonly type: "function_call";
  readonly status: ItemStatus;
  readonly call_id: string;
  readonly name: string;
  readonly arguments: string;
}

export type OutputItem = MessageItem | ReasoningItem | FunctionCallItem;

export function outputText(text: string): OutputText {
  return { type: "output_text", text, annotations: [], logprobs: [] };
}

/** A response as it stands. */
export interface ResponseState {
  readonly status: "in_progress" | "completed" | "incomplete" | "failed";
  readonly output: readonly OutputItem[];
  readonly usage?: Usage | undefined;
  readonly incompleteReason?: string | undefined;
  readonly error?: { readonly code: string; readonly message: string } | undefined;
}

export interface ResponseIdentity {
  /** resp_… */
  readonly id: string;
  /** Seconds since 1970. */
  readonly created: number;
}

/** How a run's end is told. */
export function endState({ stopReason, outcome }: Finished, output: readonly OutputItem[]): ResponseState {
  const usage = outcome?.usage;
  if (stopReason === StopReason.MAX_TOKENS) {
    return { status: "incomplete", output, usage, incompleteReason: "max_output_tokens" };
  }
  if (stopReason === StopReason.REFUSAL)
    return { status: "incomplete", output, usage, incompleteReason: "content_filter" };
  return { status: "completed", output, usage };
}

export function responseBody({ id, created }: ResponseIdentity, request: ResponseRequest, state: ResponseState) {
  const { status, output, usage, incompleteReason, error } = state;
  return {
    id,
    object: "response",
    created_at: created,
    status,
    background: false,
    error: error ?? null,
    incomplete_details: incompleteReason === undefined ? null : { reason: incompleteReason },
    instructions: request.instructions ?? null,
    max_output_tokens: request.max_output_tokens ?? null,
    metadata: request.metadata ?? {},
    model: request.model,
    output,
    parallel_tool_calls: request.parallel_tool_calls ?? true,
    previous_response_id: request.previous_response_id ?? null,
    reasoning: { effort: request.reasoning?.effort ?? null, summary: request.reasoning?.summary ?? null },
    store: request.store ?? true,
    temperature: request.temperature ?? null,
    text: { format: request.text?.format ?? { type: "text" } },
    tool_choice: request.tool_choice ?? "auto",
    tools: request.tools ?? [],
    top_p: request.top_p ?? null,
    truncation: request.truncation ?? "disabled",
    usage: usage ? usageBody(usage) : null,
  };
}

function usageBody(usage: Usage) {
  const input = Number(usage.inputTokens);
  const output = Number(usage.outputTokens);
  return {
    input_tokens: input,
    input_tokens_details: { cached_tokens: Number(usage.cachedInputTokens), cache_write_tokens: 0 },
    output_tokens: output,
    output_tokens_details: { reasoning_tokens: Number(usage.reasoningTokens) },
    total_tokens: input + output,
  };
}

/** An answer as a message of the conversation that it continues. Reasoning is no part of it. */
export function answerMessage(output: readonly OutputItem[]): Message {
  const texts = output.flatMap((item) => (item.type === "message" ? item.content.map(({ text }) => text) : []));
  const calls = output.flatMap((item) => (item.type === "function_call" ? [item] : []));
  return create(MessageSchema, {
    role: Role.ASSISTANT,
    parts: texts.map(textPart),
    toolCalls: calls.map(({ call_id: id, name, arguments: argumentsJson }) => ({ id, name, argumentsJson })),
  });
}
