// A chat completion request → the fleet's prompt. Pure.
import { create } from "@bufbuild/protobuf";
import { type ContentPart, type Message, MessageSchema, type Prompt, Role } from "#gen/drawbridge/v1/prompt";
import {
  type ChoiceOfTools,
  imageUrlPart,
  promptFrom,
  responseFormatOf,
  textPart,
  type ToolDefinition,
  toolsOf,
} from "../pipeline/prompt.ts";
import type { ChatMessage, ChatRequest } from "./schema.ts";

export interface PromptLimits {
  /** The most output tokens of any answer. */
  readonly outputTokensMax: number;
}

const roles = {
  system: Role.SYSTEM,
  developer: Role.DEVELOPER,
  user: Role.USER,
  assistant: Role.ASSISTANT,
  tool: Role.TOOL,
} as const;

export function promptOf(request: ChatRequest, limits: PromptLimits): Prompt {
  const { stop, response_format: format } = request;
  return promptFrom({
    model: request.model,
    messages: request.messages.map((message, index) => messageOf(message, `messages[${index}]`)),
    outputTokensMax: request.max_completion_tokens ?? request.max_tokens,
    outputTokensLimit: limits.outputTokensMax,
    stop: typeof stop === "string" ? [stop] : (stop ?? []),
    tools: toolsOf((request.tools ?? []).map(definitionOf), choiceOf(request)),
    responseFormat:
      format && format.type !== "text"
        ? responseFormatOf(
            format.type === "json_schema" ? format.json_schema : undefined,
            "response_format.json_schema.schema",
          )
        : undefined,
  });
}

function definitionOf(
  { function: definition }: NonNullable<ChatRequest["tools"]>[number],
  index: number,
): ToolDefinition {
  return { ...definition, param: `tools[${index}].function` };
}

function choiceOf({ tool_choice: choice, parallel_tool_calls: parallel }: ChatRequest): ChoiceOfTools {
  const single = parallel === false;
  if (choice == null) return { mode: "auto", single };
  if (typeof choice === "string") return { mode: choice, single };
  if (choice.type === "function") return { mode: "required", names: [choice.function.name], single };
  const { mode, tools } = choice.allowed_tools;
  return { mode, names: tools.map((each) => each.function.name), single };
}

function messageOf(message: ChatMessage, path: string): Message {
  const toolCalls = message.role === "assistant" ? (message.tool_calls ?? []) : [];
  return create(MessageSchema, {
    role: roles[message.role],
    parts: partsOf(message, path),
    toolCalls: toolCalls.map((call) => ({
      id: call.id,
      name: call.function.name,
      argumentsJson: call.function.arguments,
    })),
    toolCallId: message.role === "tool" ? message.tool_call_id : "",
    // A tool's result belongs to a call by its id; the name beside it, which some clients send, says nothing more.
    name: message.role === "tool" ? "" : (message.name ?? ""),
  });
}

function partsOf(message: ChatMessage, path: string): ContentPart[] {
  const { content } = message;
  if (content == null) {
    const refusal = message.role === "assistant" ? message.refusal : undefined;
    return refusal ? [textPart(refusal)] : [];
  }
  if (typeof content === "string") return [textPart(content)];
  return content.map((part, index) => {
    if (part.type === "image_url") return imageUrlPart(part.image_url.url, `${path}.content[${index}].image_url.url`);
    return textPart(part.type === "refusal" ? part.refusal : part.text);
  });
}
