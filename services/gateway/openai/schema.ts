// What a chat completion request may say. Everything that OpenAI's API takes is here in one of three groups: honoured, accepted without effect
// (and named to the client in a header), or refused by name. Nothing is dropped silently, and an unknown field is refused.
import { z } from "zod";

export const text = z.string().max(16_000_000);

/** Where Anthropic's API may keep a prefix; clients of such models send it through OpenAI's as well. */
const cacheControl = z.record(z.string(), z.unknown()).nullish();

const textPart = z.strictObject({ type: z.literal("text"), text, cache_control: cacheControl });
const imagePart = z.strictObject({
  type: z.literal("image_url"),
  image_url: z.strictObject({ url: z.string().min(1), detail: z.enum(["auto", "low", "high", "original"]).nullish() }),
  cache_control: cacheControl,
});
const refusalPart = z.strictObject({ type: z.literal("refusal"), refusal: text });

const textContent = z.union([text, z.array(textPart).min(1)]);
const userContent = z.union([text, z.array(z.discriminatedUnion("type", [textPart, imagePart])).min(1)]);
const assistantContent = z.union([text, z.array(z.discriminatedUnion("type", [textPart, refusalPart]))]).nullish();

const toolCall = z.strictObject({
  /** What is left of a stream that a client put together. */
  index: z.int().nullish(),
  id: z.string().min(1).max(256),
  type: z.literal("function"),
  function: z.strictObject({
    name: z.string().min(1).max(256),
    arguments: text,
    /** What the official SDK adds to an answer that it helped to read, and sends back. */
    parsed_arguments: z.unknown().optional(),
  }),
});

const name = z.string().max(256).nullish();

const assistantMessage = z
  .strictObject({
    role: z.literal("assistant"),
    content: assistantContent,
    name,
    refusal: text.nullish(),
    tool_calls: z.array(toolCall).max(128).nullish(),
    // What an answer of ours or of OpenAI's carries, sent back as history, absent things as null included.
    annotations: z.array(z.unknown()).nullish(),
    /** As parsed_arguments of a tool call. */
    parsed: z.unknown().optional(),
    audio: z.null().optional(),
    function_call: z.null().optional(),
    reasoning_content: text.nullish(),
  })
  .refine(({ content, refusal, tool_calls }) => content != null || refusal != null || (tool_calls ?? []).length > 0, {
    path: ["content"],
    error: "an assistant message has content, a refusal or tool calls",
  });

const message = z.discriminatedUnion("role", [
  z.strictObject({ role: z.literal("system"), content: textContent, name }),
  z.strictObject({ role: z.literal("developer"), content: textContent, name }),
  z.strictObject({ role: z.literal("user"), content: userContent, name }),
  assistantMessage,
  z.strictObject({ role: z.literal("tool"), content: textContent, tool_call_id: z.string().min(1).max(256), name }),
]);

export const tokenLimit = z.int().min(1).max(10_000_000).nullish();

export const toolName = z.string().regex(/^[a-zA-Z0-9_.-]{1,128}$/, "expected letters, digits, _, . or -, at most 128");
export const jsonObject = z.record(z.string(), z.unknown());

const onlyFunctions = 'only tools of the type "function" can be called';

const tool = z.strictObject({
  type: z.literal("function", onlyFunctions),
  function: z.strictObject({
    name: toolName,
    description: z.string().max(65_536).nullish(),
    parameters: jsonObject.nullish(),
    strict: z.boolean().nullish(),
  }),
  cache_control: cacheControl,
});

const toolReference = z.strictObject({
  type: z.literal("function", onlyFunctions),
  function: z.strictObject({ name: toolName }),
});

const toolChoice = z.union([
  z.enum(["none", "auto", "required"]),
  toolReference,
  z.strictObject({
    type: z.literal("allowed_tools"),
    allowed_tools: z.strictObject({
      mode: z.enum(["auto", "required"]),
      tools: z.array(toolReference).min(1).max(128),
    }),
  }),
]);

const responseFormat = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("text") }),
  z.strictObject({ type: z.literal("json_object") }),
  z.strictObject({
    type: z.literal("json_schema"),
    json_schema: z.strictObject({
      name: z.string().min(1).max(128),
      description: z.string().max(65_536).nullish(),
      schema: jsonObject.nullish(),
      strict: z.boolean().nullish(),
    }),
  }),
]);

export const modelName = z.string().min(1).max(256);

export const streaming = {
  stream: z.boolean().nullish(),
  stream_options: z
    .strictObject({ include_usage: z.boolean().nullish(), include_obfuscation: z.boolean().nullish() })
    .nullish(),
} as const;

export const stopSequences = z
  .union([z.string().min(1).max(1_024), z.array(z.string().min(1).max(1_024)).max(4)])
  .nullish();

/** Honoured. */
const honoured = {
  model: modelName,
  messages: z.array(message).min(1).max(4_096),
  ...streaming,
  max_tokens: tokenLimit,
  max_completion_tokens: tokenLimit,
  tools: z.array(tool).max(128).nullish(),
  tool_choice: toolChoice.nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  response_format: responseFormat.nullish(),
  stop: stopSequences,
} as const;

const penalty = z.number().min(-2).max(2).nullish();

/** Hints to a model's sampler or to OpenAI's own service. An agent has no place for them: taken, checked, and without effect. */
export const withoutEffect = {
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  presence_penalty: penalty,
  frequency_penalty: penalty,
  logit_bias: z.record(z.string().max(64), z.number().min(-100).max(100)).nullish(),
  // 64 bits, of which JSON's numbers carry 53.
  seed: z
    .number()
    .refine(Number.isInteger, "expected a whole number")
    .min(-(2 ** 63))
    .max(2 ** 63)
    .nullish(),
  user: z.string().max(512).nullish(),
  safety_identifier: z.string().max(128).nullish(),
  prompt_cache_key: z.string().max(512).nullish(),
  prompt_cache_retention: z.enum(["in_memory", "in-memory", "24h"]).nullish(),
  prompt_cache_options: z
    .strictObject({ mode: z.enum(["implicit", "explicit"]).optional(), ttl: z.string().max(64).optional() })
    .nullish(),
  metadata: z
    .record(z.string().max(64), z.string().max(512))
    .refine((pairs) => Object.keys(pairs).length <= 16, "expected at most 16 pairs")
    .nullish(),
  store: z.boolean().nullish(),
  service_tier: z.enum(["auto", "default", "flex", "scale", "priority", "fast"]).nullish(),
  reasoning_effort: z.enum(["none", "minimal", "low", "medium", "high", "xhigh", "max"]).nullish(),
  verbosity: z.enum(["low", "medium", "high"]).nullish(),
} as const;

/** Would change what the answer is; taken only where it asks for nothing. */
const refusedUnlessEmpty = {
  n: z.literal(1).nullish(),
  functions: z.array(z.unknown()).max(0).nullish(),
  function_call: z.enum(["none", "auto"]).nullish(),
  logprobs: z.literal(false).nullish(),
  top_logprobs: z.literal(0).nullish(),
  modalities: z.array(z.literal("text")).nullish(),
  audio: z.null().optional(),
  prediction: z.null().optional(),
  web_search_options: z.null().optional(),
  moderation: z.null().optional(),
} as const;

/** What a client is told whose request asks for it. */
export const unsupportedByChat: Record<keyof typeof refusedUnlessEmpty, string> = {
  n: "Only one choice can be produced: leave `n` out, or set it to 1.",
  functions: "`functions` are not supported by this server: send them as `tools`.",
  function_call: "`function_call` is not supported by this server: send `tools` and `tool_choice`.",
  logprobs: "Log probabilities are not known to this server: leave `logprobs` out.",
  top_logprobs: "Log probabilities are not known to this server: leave `top_logprobs` out.",
  modalities: 'Only text can be produced: leave `modalities` out, or set it to ["text"].',
  audio: "Only text can be produced: leave `audio` out.",
  prediction: "Predicted outputs are not supported by this server: leave `prediction` out.",
  web_search_options: "Web search is not supported by this server: leave `web_search_options` out.",
  moderation: "Moderation is not supported by this server: leave `moderation` out.",
};

export const chatRequest = z.strictObject({ ...honoured, ...withoutEffect, ...refusedUnlessEmpty });

export type ChatRequest = z.output<typeof chatRequest>;
export type ChatMessage = ChatRequest["messages"][number];

/** Names of what was given and has no effect. */
export function ignoredParameters(request: ChatRequest): string[] {
  const ignored = Object.keys(withoutEffect).filter((field) => request[field as keyof ChatRequest] != null);
  if (request.stream_options?.include_obfuscation) ignored.push("stream_options.include_obfuscation");
  if (request.parallel_tool_calls != null && !request.tools?.length) ignored.push("parallel_tool_calls");
  if (request.tools?.some((each) => each.function.strict)) ignored.push("tools.function.strict");
  if (request.tools?.some((each) => each.cache_control != null)) ignored.push("tools.cache_control");
  const parts = request.messages.flatMap(({ content }): Part[] => (Array.isArray(content) ? content : []));
  if (parts.some(hasDetail)) ignored.push("messages.content.image_url.detail");
  if (parts.some((part) => "cache_control" in part && part.cache_control != null)) {
    ignored.push("messages.content.cache_control");
  }
  return ignored;
}

type Part = Extract<ChatMessage["content"], readonly unknown[]>[number];

function hasDetail(part: Part): boolean {
  return part.type === "image_url" && part.image_url.detail != null;
}
