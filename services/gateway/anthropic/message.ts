// The body of a whole message, and what a streamed one shares with it.
import { type Finished, StopReason } from "#gen/drawbridge/v1/prompt";
import type { Usage } from "#gen/drawbridge/v1/usage";
import type { ToolCall, WholeAnswer } from "../pipeline/collect.ts";

export interface MessageIdentity {
  /** msg_… */
  readonly id: string;
  readonly model: string;
  /** Whether the model's reasoning is shown. */
  readonly thinking: boolean;
}

/** What is the same at a message's beginning and end. */
export function messageHead({ id, model }: MessageIdentity) {
  return { id, type: "message", role: "assistant", model } as const;
}

export function stopFields({ stopReason, stopSequence }: Finished) {
  return { stop_reason: stopName(stopReason), stop_sequence: stopSequence === "" ? null : stopSequence };
}

function stopName(stopReason: StopReason): string {
  switch (stopReason) {
    case StopReason.MAX_TOKENS:
      return "max_tokens";
    case StopReason.STOP_SEQUENCE:
      return "stop_sequence";
    case StopReason.TOOL_CALLS:
      return "tool_use";
    case StopReason.REFUSAL:
      return "refusal";
    default:
      return "end_turn";
  }
}

/** Anthropic counts what came from a cache apart. */
export function usageBody(usage: Usage | undefined) {
  const cached = Number(usage?.cachedInputTokens ?? 0n);
  return {
    input_tokens: Math.max(0, Number(usage?.inputTokens ?? 0n) - cached),
    cache_creation_input_tokens: 0,
    cache_read_input_tokens: cached,
    output_tokens: Number(usage?.outputTokens ?? 0n),
  };
}

export function messageBody(identity: MessageIdentity, { text, reasoning, toolCalls, finished }: WholeAnswer) {
  const content: object[] = [];
  if (identity.thinking && reasoning !== "") content.push({ type: "thinking", thinking: reasoning, signature: "" });
  if (text !== "") content.push({ type: "text", text, citations: null });
  for (const call of toolCalls) content.push(toolUse(call));
  return {
    ...messageHead(identity),
    content,
    ...stopFields(finished),
    usage: usageBody(finished.outcome?.usage),
  };
}

function toolUse({ id, name, argumentsJson }: ToolCall) {
  return { type: "tool_use", id, name, input: parsedInput(argumentsJson) };
}

/** A model's arguments are text; what is no JSON object is given as it is, in a field of its own. */
function parsedInput(argumentsJson: string): object {
  if (argumentsJson.trim() === "") return {};
  try {
    const input: unknown = JSON.parse(argumentsJson);
    if (typeof input === "object" && input !== null) return input;
  } catch {
    // Said below.
  }
  return { invalid_json: argumentsJson };
}
