// What a request for a response may say: honoured, accepted without effect (and named to the client in a header), or refused by name.
import { z } from "zod";
import {
  jsonObject,
  modelName,
  text,
  tokenLimit,
  toolName,
  withoutEffect as chatWithoutEffect,
} from "../openai/schema.ts";
import type { Unsupported } from "../openai/parse.ts";

const itemId = z.string().max(256).nullish();
const status = z.enum(["in_progress", "completed", "incomplete"]).nullish();
const detail = z.enum(["auto", "low", "high", "original"]).nullish();

const inputText = z.strictObject({ type: z.literal("input_text"), text });
const inputImage = z.strictObject({
  type: z.literal("input_image"),
  image_url: z.string("expected a data URL; files are not kept").min(1),
  detail,
  file_id: z.null("images are taken by value only").optional(),
});
const outputText = z.strictObject({
  type: z.literal("output_text"),
  text,
  annotations: z.array(z.unknown()).optional(),
  logprobs: z.array(z.unknown()).nullish(),
});
const refusal = z.strictObject({ type: z.literal("refusal"), refusal: text });
const inputParts = z.array(z.discriminatedUnion("type", [inputText, inputImage]));

const message = z.strictObject({
  type: z.literal("message").optional(),
  role: z.enum(["user", "assistant", "system", "developer"]),
  content: z.union([text, z.array(z.discriminatedUnion("type", [inputText, inputImage, outputText, refusal]))]),
  id: itemId,
  status,
  phase: z.string().max(64).nullish(),
});

const callId = z.string().min(1).max(256);

const functionCall = z.strictObject({
  type: z.literal("function_call"),
  call_id: callId,
  name: z.string().min(1).max(256),
  arguments: text,
  id: itemId,
  status,
  namespace: z.null().optional(),
  caller: jsonObject.nullish(),
});

const functionCallOutput = z.strictObject({
  type: z.literal("function_call_output"),
  call_id: callId,
  output: z.union([text, inputParts]),
  id: itemId,
  status,
  name: z.string().max(256).nullish(),
  caller: jsonObject.nullish(),
});

const reasoningItem = z.strictObject({
  type: z.literal("reasoning"),
  summary: z.array(z.unknown()),
  content: z.array(z.unknown()).nullish(),
  encrypted_content: z.string().nullish(),
  id: itemId,
  status,
});

/** An item without a type is a message. */
const item = z.union([z.discriminatedUnion("type", [functionCall, functionCallOutput, reasoningItem]), message]);

const onlyFunctions = 'only tools of the type "function" can be called';

const tool = z.strictObject({
  type: z.literal("function", onlyFunctions),
  name: toolName,
  description: z.string().max(65_536).nullish(),
  parameters: jsonObject.nullish(),
  strict: z.boolean().nullish(),
  defer_loading: z.literal(false).nullish(),
});

const toolReference = z.strictObject({ type: z.literal("function", onlyFunctions), name: toolName });

const toolChoice = z.union([
  z.enum(["none", "auto", "required"]),
  z.discriminatedUnion("type", [
    toolReference,
    z.strictObject({
      type: z.literal("allowed_tools"),
      mode: z.enum(["auto", "required"]),
      tools: z.array(toolReference).min(1).max(128),
    }),
  ]),
]);

const format = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("text") }),
  z.strictObject({ type: z.literal("json_object") }),
  z.strictObject({
    type: z.literal("json_schema"),
    name: z.string().min(1).max(128),
    description: z.string().max(65_536).nullish(),
    schema: jsonObject,
    strict: z.boolean().nullish(),
  }),
]);

const { temperature, top_p, user, safety_identifier, prompt_cache_key, prompt_cache_retention, service_tier } =
  chatWithoutEffect;
const withoutEffect = {
  temperature,
  top_p,
  user,
  safety_identifier,
  prompt_cache_key,
  prompt_cache_retention,
  prompt_cache_options: chatWithoutEffect.prompt_cache_options,
  service_tier,
  max_tool_calls: z.int().min(1).nullish(),
} as const;

const refusedUnlessEmpty = {
  background: z.literal(false).nullish(),
  conversation: z.null().optional(),
  prompt: z.null().optional(),
  top_logprobs: z.literal(0).nullish(),
  context_management: z.array(z.unknown()).max(0).nullish(),
  moderation: z.null().optional(),
} as const;

export const unsupportedByResponses: Unsupported = {
  background: "Responses are not produced in the background by this server: leave `background` out.",
  conversation: "Conversations are not kept by this server: send `previous_response_id`, or the whole input.",
  prompt: "Prompt templates are not kept by this server: send `instructions` and `input`.",
  top_logprobs: "Log probabilities are not known to this server: leave `top_logprobs` out.",
  context_management: "An agent manages its own context: leave `context_management` out.",
  moderation: "Moderation is not supported by this server: leave `moderation` out.",
};

const effort = chatWithoutEffect.reasoning_effort;
const summary = z.enum(["auto", "concise", "detailed"]).nullish();

export const responseRequest = z.strictObject({
  model: modelName,
  input: z.union([text.min(1), z.array(item).min(1).max(4_096)]),
  instructions: text.nullish(),
  max_output_tokens: tokenLimit,
  stream: z.boolean().nullish(),
  stream_options: z.strictObject({ include_obfuscation: z.boolean().optional() }).nullish(),
  store: z.boolean().nullish(),
  previous_response_id: z.string().max(256).nullish(),
  metadata: chatWithoutEffect.metadata,
  tools: z.array(tool).max(128).nullish(),
  tool_choice: toolChoice.nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  text: z.strictObject({ format: format.nullish(), verbosity: z.enum(["low", "medium", "high"]).nullish() }).nullish(),
  reasoning: z.strictObject({ effort, summary, generate_summary: summary }).nullish(),
  include: z
    .array(z.literal("reasoning.encrypted_content", "this server has nothing of that kind to include"))
    .nullish(),
  truncation: z.enum(["auto", "disabled"]).nullish(),
  ...withoutEffect,
  ...refusedUnlessEmpty,
});

export type ResponseRequest = z.output<typeof responseRequest>;
export type InputItem = z.output<typeof item>;

/** Names of what was given and has no effect. */
export function ignoredParameters(request: ResponseRequest): string[] {
  const ignored = Object.keys(withoutEffect).filter((field) => request[field as keyof typeof withoutEffect] != null);
  const also: readonly [string, unknown][] = [
    ["stream_options.include_obfuscation", request.stream_options?.include_obfuscation],
    ["tools.strict", request.tools?.some((each) => each.strict)],
    ["text.verbosity", request.text?.verbosity],
    ["reasoning.effort", request.reasoning?.effort],
    ["include", request.include?.length],
    ["truncation", request.truncation === "auto"],
  ];
  return [...ignored, ...also.filter(([, given]) => given).map(([name]) => name)];
}
