// A message request of Anthropic's form → the fleet's prompt. Pure.
import { create } from "@bufbuild/protobuf";
import { type ContentPart, type Message, MessageSchema, type Prompt, Role } from "#gen/drawbridge/v1/prompt";
import { ParameterError } from "../openai/parse.ts";
import { type ChoiceOfTools, imagePart, promptFrom, responseFormatOf, textPart, toolsOf } from "../pipeline/prompt.ts";
import type { CountRequest, MessageParam, MessageRequest } from "./schema.ts";

export function promptOf(
  request: CountRequest & Partial<Pick<MessageRequest, "max_tokens" | "stop_sequences">>,
  outputTokensLimit: number,
): Prompt {
  const { system, messages, tools, output_config: output } = request;
  if (messages.at(-1)?.role === "assistant") {
    const message = "The last message must be from the user: an agent cannot continue a text that was begun for it.";
    throw new ParameterError(message, "messages");
  }
  return promptFrom({
    model: request.model,
    messages: [...systemMessages(system), ...messages.flatMap(messagesOf)],
    outputTokensMax: request.max_tokens,
    outputTokensLimit,
    stop: request.stop_sequences ?? [],
    tools: toolsOf(
      (tools ?? []).map(({ name, description, input_schema: parameters }, index) => ({
        name,
        description,
        parameters,
        param: `tools[${index}]`,
      })),
      choiceOf(request),
    ),
    responseFormat: output?.format
      ? responseFormatOf({ name: "answer", schema: output.format.schema }, "output_config.format.schema")
      : undefined,
  });
}

function choiceOf({ tool_choice: choice }: CountRequest): ChoiceOfTools {
  if (choice == null) return { mode: "auto", single: false };
  if (choice.type === "none") return { mode: "none", single: false };
  const single = choice.disable_parallel_tool_use === true;
  if (choice.type === "tool") return { mode: "required", names: [choice.name], single };
  return { mode: choice.type === "any" ? "required" : "auto", single };
}

function systemMessages(system: CountRequest["system"]): Message[] {
  if (system == null || system.length === 0) return [];
  const parts = typeof system === "string" ? [textPart(system)] : system.map(({ text }) => textPart(text));
  return [create(MessageSchema, { role: Role.SYSTEM, parts })];
}

function messagesOf(message: MessageParam): Message[] {
  const { content } = message;
  if (typeof content === "string") {
    const role = message.role === "user" ? Role.USER : Role.ASSISTANT;
    return [create(MessageSchema, { role, parts: [textPart(content)] })];
  }
  return message.role === "user" ? userMessages(message) : assistantMessages(message);
}

type UserBlock = Extract<Extract<MessageParam, { role: "user" }>["content"], readonly unknown[]>[number];
type AssistantBlock = Extract<Extract<MessageParam, { role: "assistant" }>["content"], readonly unknown[]>[number];

/** A result of a tool is a message of its own; what is said beside it stays in order. */
function userMessages(message: Extract<MessageParam, { role: "user" }>): Message[] {
  const messages: Message[] = [];
  let said: ContentPart[] = [];
  const flush = () => {
    if (said.length > 0) messages.push(create(MessageSchema, { role: Role.USER, parts: said }));
    said = [];
  };
  for (const block of message.content as readonly UserBlock[]) {
    if (block.type !== "tool_result") {
      said.push(partOf(block));
      continue;
    }
    flush();
    messages.push(create(MessageSchema, { role: Role.TOOL, toolCallId: block.tool_use_id, parts: resultParts(block) }));
  }
  flush();
  return messages;
}

function partOf(block: Exclude<UserBlock, { type: "tool_result" }>): ContentPart {
  return block.type === "text" ? textPart(block.text) : imagePart(block.source.media_type, block.source.data);
}

function resultParts({ content, is_error: failed }: Extract<UserBlock, { type: "tool_result" }>): ContentPart[] {
  const parts = typeof content === "string" ? [textPart(content)] : (content ?? []).map(partOf);
  if (failed) parts.unshift(textPart("The tool failed: "));
  return parts.length > 0 ? parts : [textPart("")];
}

/** Earlier thinking is left out: a model thinks anew. */
function assistantMessages(message: Extract<MessageParam, { role: "assistant" }>): Message[] {
  const blocks = message.content as readonly AssistantBlock[];
  const parts = blocks.flatMap((block) => (block.type === "text" ? [textPart(block.text)] : []));
  const toolCalls = blocks.flatMap((block) =>
    block.type === "tool_use"
      ? [{ id: block.id, name: block.name, argumentsJson: JSON.stringify(block.input ?? {}) }]
      : [],
  );
  if (parts.length === 0 && toolCalls.length === 0) return [];
  return [create(MessageSchema, { role: Role.ASSISTANT, parts, toolCalls })];
}
