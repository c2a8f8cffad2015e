// A request for a response → the fleet's prompt. Pure.
import { create } from "@bufbuild/protobuf";
import {
  type ContentPart,
  type Message,
  MessageSchema,
  type Prompt,
  Role,
  ToolCallSchema,
} from "#gen/drawbridge/v1/prompt";
import {
  type ChoiceOfTools,
  imageUrlPart,
  promptFrom,
  responseFormatOf,
  textPart,
  toolsOf,
} from "../pipeline/prompt.ts";
import type { InputItem, ResponseRequest } from "./schema.ts";

const roles = {
  system: Role.SYSTEM,
  developer: Role.DEVELOPER,
  user: Role.USER,
  assistant: Role.ASSISTANT,
} as const;

/** The prompt for a conversation. Instructions are of this request only: they are no part of what is continued. */
export function promptOf(
  request: ResponseRequest,
  conversation: readonly Message[],
  outputTokensLimit: number,
): Prompt {
  const { instructions, text } = request;
  const format = text?.format;
  const system = instructions ? [create(MessageSchema, { role: Role.SYSTEM, parts: [textPart(instructions)] })] : [];
  return promptFrom({
    model: request.model,
    messages: [...system, ...conversation],
    outputTokensMax: request.max_output_tokens,
    outputTokensLimit,
    tools: toolsOf(
      (request.tools ?? []).map((tool, index) => ({ ...tool, param: `tools[${index}]` })),
      choiceOf(request),
    ),
    responseFormat:
      format && format.type !== "text"
        ? responseFormatOf(format.type === "json_schema" ? format : undefined, "text.format.schema")
        : undefined,
  });
}

function choiceOf({ tool_choice: choice, parallel_tool_calls: parallel }: ResponseRequest): ChoiceOfTools {
  const single = parallel === false;
  if (choice == null) return { mode: "auto", single };
  if (typeof choice === "string") return { mode: choice, single };
  if (choice.type === "function") return { mode: "required", names: [choice.name], single };
  return { mode: choice.mode, names: choice.tools.map(({ name }) => name), single };
}

/** What a request adds to the conversation. */
export function messagesOf(input: ResponseRequest["input"]): Message[] {
  if (typeof input === "string") return [create(MessageSchema, { role: Role.USER, parts: [textPart(input)] })];
  const messages: Message[] = [];
  for (const [index, item] of input.entries()) addItem(messages, item, `input[${index}]`);
  return messages;
}

function addItem(messages: Message[], item: InputItem, path: string): void {
  switch (item.type) {
    case "reasoning":
      // A model thinks anew.
      return;
    case "function_call": {
      const call = create(ToolCallSchema, { id: item.call_id, name: item.name, argumentsJson: item.arguments });
      const last = messages.at(-1);
      // A text and the calls after it are one answer.
      if (last?.role === Role.ASSISTANT) last.toolCalls.push(call);
      else messages.push(create(MessageSchema, { role: Role.ASSISTANT, toolCalls: [call] }));
      return;
    }
    case "function_call_output":
      messages.push(
        create(MessageSchema, {
          role: Role.TOOL,
          toolCallId: item.call_id,
          parts: partsOf(item.output, `${path}.output`),
        }),
      );
      return;
    default:
      messages.push(create(MessageSchema, { role: roles[item.role], parts: partsOf(item.content, `${path}.content`) }));
  }
}

type Content = Extract<InputItem, { role: string }>["content"];

function partsOf(content: Content, path: string): ContentPart[] {
  if (typeof content === "string") return [textPart(content)];
  return content.map((part, index) => {
    switch (part.type) {
      case "input_image":
        return imageUrlPart(part.image_url, `${path}[${index}].image_url`);
      case "refusal":
        return textPart(part.refusal);
      default:
        return textPart(part.text);
    }
  });
}
