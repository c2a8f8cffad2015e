// A chat completion request → the fleet's prompt. Pure.
import { create } from "@bufbuild/protobuf";
import {
  type ContentPart,
  ContentPartSchema,
  ImageSchema,
  type Message,
  MessageSchema,
  type Prompt,
  PromptSchema,
  Role,
} from "#gen/drawbridge/v1/prompt";
import { countTokens } from "../../kit/tokens.ts";
import { ParameterError } from "./parse.ts";
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
  const messages = request.messages.map((message, index) => messageOf(message, `messages[${index}]`));
  const asked = request.max_completion_tokens ?? request.max_tokens;
  return create(PromptSchema, {
    model: request.model,
    messages,
    outputTokensMax: BigInt(asked == null ? 0 : Math.min(asked, limits.outputTokensMax)),
    stop: typeof request.stop === "string" ? [request.stop] : (request.stop ?? []),
    inputTokensEstimate: BigInt(inputTokens(messages)),
  });
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
    name: "name" in message ? (message.name ?? "") : "",
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
    if (part.type === "image_url") return imagePart(part.image_url.url, `${path}.content[${index}].image_url.url`);
    return textPart(part.type === "refusal" ? part.refusal : part.text);
  });
}

function textPart(value: string): ContentPart {
  return create(ContentPartSchema, { part: { case: "text", value } });
}

const dataUrl = /^data:(image\/[a-z0-9.+-]+);base64,([A-Za-z0-9+/]+={0,2})$/i;

/** Images by value only: fetching addresses on a caller's behalf would reach into the operator's network. */
function imagePart(url: string, param: string): ContentPart {
  const [, mediaType, base64] = dataUrl.exec(url) ?? [];
  if (!mediaType || !base64) {
    throw new ParameterError("Images are taken by value only: send a data URL such as data:image/png;base64,….", param);
  }
  const image = create(ImageSchema, { mediaType, data: Buffer.from(base64, "base64") });
  return create(ContentPartSchema, { part: { case: "image", value: image } });
}

/** What a message costs beyond its text, and what an image is taken for, in tokens: OpenAI's published rules of thumb. */
const messageOverhead = 4;
const imageTokens = 765;

function inputTokens(messages: readonly Message[]): number {
  let total = 0;
  for (const message of messages) {
    total += messageOverhead;
    for (const { part } of message.parts) total += part.case === "text" ? countTokens(part.value) : imageTokens;
    for (const call of message.toolCalls) total += countTokens(call.name) + countTokens(call.argumentsJson);
  }
  return total;
}
