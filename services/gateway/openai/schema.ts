// What a chat completion request may say. Everything that OpenAI's API takes is here in one of three groups: honoured, accepted without effect
// (and named to the client in a header), or refused by name. Nothing is dropped silently, and an unknown field is refused.
import { z } from "zod";

const text = z.string().max(16_000_000);

const textPart = z.strictObject({ type: z.literal("text"), text });
const imagePart = z.strictObject({
  type: z.literal("image_url"),
  image_url: z.strictObject({ url: z.string().min(1), detail: z.enum(["auto", "low", "high"]).optional() }),
});
const refusalPart = z.strictObject({ type: z.literal("refusal"), refusal: text });

const textContent = z.union([text, z.array(textPart).min(1)]);
const userContent = z.union([text, z.array(z.discriminatedUnion("type", [textPart, imagePart])).min(1)]);
const assistantContent = z.union([text, z.array(z.discriminatedUnion("type", [textPart, refusalPart]))]).nullish();

const toolCall = z.strictObject({
  id: z.string().min(1).max(256),
  type: z.literal("function"),
  function: z.strictObject({ name: z.string().min(1).max(256), arguments: text }),
});

const name = z.string().max(256).optional();

const message = z.discriminatedUnion("role", [
  z.strictObject({ role: z.literal("system"), content: textContent, name }),
  z.strictObject({ role: z.literal("developer"), content: textContent, name }),
  z.strictObject({ role: z.literal("user"), content: userContent, name }),
  z.strictObject({
    role: z.literal("assistant"),
    content: assistantContent,
    name,
    refusal: text.nullish(),
    tool_calls: z.array(toolCall).max(128).optional(),
    // What an answer of ours or of OpenAI's carries, sent back as history.
    annotations: z.array(z.unknown()).optional(),
    audio: z.null().optional(),
    function_call: z.null().optional(),
  }),
  z.strictObject({ role: z.literal("tool"), content: textContent, tool_call_id: z.string().min(1).max(256) }),
]);

const tokenLimit = z.int().min(1).max(10_000_000).nullish();

/** Honoured. */
const honoured = {
  model: z.string().min(1).max(256),
  messages: z.array(message).min(1).max(4_096),
  stream: z.boolean().nullish(),
  stream_options: z
    .strictObject({ include_usage: z.boolean().optional(), include_obfuscation: z.boolean().optional() })
    .nullish(),
  max_tokens: tokenLimit,
  max_completion_tokens: tokenLimit,
  stop: z.union([z.string().min(1).max(1_024), z.array(z.string().min(1).max(1_024)).max(4)]).nullish(),
} as const;

const unit = z.number().min(0).max(1);
const penalty = z.number().min(-2).max(2).nullish();

/** Hints to a model's sampler or to OpenAI's own service. An agent has no place for them: taken, checked, and without effect. */
const withoutEffect = {
  temperature: z.number().min(0).max(2).nullish(),
  top_p: unit.nullish(),
  presence_penalty: penalty,
  frequency_penalty: penalty,
  logit_bias: z.record(z.string(), z.number()).nullish(),
  seed: z.int().nullish(),
  user: z.string().max(512).nullish(),
  safety_identifier: z.string().max(512).nullish(),
  prompt_cache_key: z.string().max(512).nullish(),
  prompt_cache_retention: z.string().max(64).nullish(),
  metadata: z.record(z.string(), z.string()).nullish(),
  store: z.boolean().nullish(),
  service_tier: z.string().max(64).nullish(),
  reasoning_effort: z.string().max(64).nullish(),
  verbosity: z.string().max(64).nullish(),
  parallel_tool_calls: z.boolean().nullish(),
} as const;

/** Would change what the answer is; taken only where it asks for nothing. */
const refusedUnlessEmpty = {
  n: z.literal(1, { error: "Only one choice can be produced: leave `n` out, or set it to 1." }).nullish(),
  tools: z.array(z.unknown()).max(0, { error: "Tools are not supported by this server yet." }).nullish(),
  tool_choice: z.enum(["none", "auto"], { error: "Tools are not supported by this server yet." }).nullish(),
  functions: z.array(z.unknown()).max(0, { error: "Functions are not supported by this server yet." }).nullish(),
  function_call: z.enum(["none", "auto"], { error: "Functions are not supported by this server yet." }).nullish(),
  response_format: z
    .strictObject({ type: z.literal("text") }, { error: "Only the response format `text` is supported." })
    .nullish(),
  logprobs: z.literal(false, { error: "Log probabilities are not known to this server." }).nullish(),
  top_logprobs: z.literal(0, { error: "Log probabilities are not known to this server." }).nullish(),
  modalities: z.array(z.literal("text", { error: "Only text can be produced." })).nullish(),
  audio: z.null({ error: "Only text can be produced." }).optional(),
  prediction: z.null({ error: "Predicted outputs are not supported." }).optional(),
  web_search_options: z.null({ error: "Web search is not supported." }).optional(),
  moderation: z.null({ error: "Moderation is not supported." }).optional(),
} as const;

export const chatRequest = z.strictObject({ ...honoured, ...withoutEffect, ...refusedUnlessEmpty });

export type ChatRequest = z.output<typeof chatRequest>;
export type ChatMessage = ChatRequest["messages"][number];

/** Names of fields that were given and have no effect. */
export function ignoredParameters(request: ChatRequest): string[] {
  return Object.keys(withoutEffect).filter((field) => request[field as keyof ChatRequest] != null);
}

/** Fields whose refusal means "not supported" and not "malformed". */
export function isUnsupported(field: string): boolean {
  return field in refusedUnlessEmpty;
}
