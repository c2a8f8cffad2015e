// What a message request of Anthropic's form may say: honoured, accepted without effect (and named to the client in a header), or refused by name.
import { z } from "zod";
import { jsonObject, modelName, text, tokenLimit, toolName } from "../openai/schema.ts";
import type { Unsupported } from "../openai/parse.ts";

/** Where a provider may keep a prefix for later requests; an agent keeps its own. */
const cacheControl = jsonObject.nullish();

const textBlock = z.strictObject({
  type: z.literal("text"),
  text,
  cache_control: cacheControl,
  citations: z.array(z.unknown()).max(0).nullish(),
});

const imageBlock = z.strictObject({
  type: z.literal("image"),
  source: z.strictObject({
    type: z.literal("base64", "images are taken by value only: send a source of the type base64"),
    media_type: z.string().regex(/^image\/[a-z0-9.+-]{1,100}$/i),
    data: z.string().regex(/^[A-Za-z0-9+/]+={0,2}$/, "expected base64"),
  }),
  cache_control: cacheControl,
  transformations: jsonObject.nullish(),
});

const toolId = z.string().min(1).max(256);

const toolResultBlock = z.strictObject({
  type: z.literal("tool_result"),
  tool_use_id: toolId,
  content: z.union([text, z.array(z.discriminatedUnion("type", [textBlock, imageBlock]))]).nullish(),
  is_error: z.boolean().nullish(),
  cache_control: cacheControl,
});

const toolUseBlock = z.strictObject({
  type: z.literal("tool_use"),
  id: toolId,
  name: z.string().min(1).max(256),
  input: z.unknown(),
  cache_control: cacheControl,
  caller: jsonObject.nullish(),
});

const thinkingBlock = z.strictObject({ type: z.literal("thinking"), thinking: text, signature: text.nullish() });
const redactedThinkingBlock = z.strictObject({ type: z.literal("redacted_thinking"), data: text });

const message = z.discriminatedUnion("role", [
  z.strictObject({
    role: z.literal("user"),
    content: z.union([
      text.min(1),
      z
        .array(z.discriminatedUnion("type", [textBlock, imageBlock, toolResultBlock]))
        .min(1)
        .max(4_096),
    ]),
  }),
  z.strictObject({
    role: z.literal("assistant"),
    content: z.union([
      text.min(1),
      z.array(z.discriminatedUnion("type", [textBlock, toolUseBlock, thinkingBlock, redactedThinkingBlock])).max(4_096),
    ]),
  }),
]);

const tool = z.strictObject({
  type: z.literal("custom", "only tools that the client runs can be called").nullish(),
  name: toolName,
  description: z.string().max(65_536).nullish(),
  input_schema: jsonObject,
  cache_control: cacheControl,
  strict: z.boolean().nullish(),
  eager_input_streaming: z.boolean().nullish(),
  input_examples: z.array(jsonObject).nullish(),
  defer_loading: z.literal(false).nullish(),
});

const single = { disable_parallel_tool_use: z.boolean().optional() } as const;

const toolChoice = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("auto"), ...single }),
  z.strictObject({ type: z.literal("any"), ...single }),
  z.strictObject({ type: z.literal("tool"), name: toolName, ...single }),
  z.strictObject({ type: z.literal("none") }),
]);

const display = z.enum(["summarized", "omitted"]).nullish();

const thinking = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("enabled"), budget_tokens: z.int().min(1).max(10_000_000), display }),
  z.strictObject({ type: z.literal("adaptive"), display }),
  z.strictObject({ type: z.literal("disabled") }),
]);

/** What a message and a count of its tokens share. */
const input = {
  model: modelName,
  messages: z.array(message).min(1).max(4_096),
  system: z.union([text, z.array(textBlock)]).nullish(),
  tools: z.array(tool).max(128).nullish(),
  tool_choice: toolChoice.nullish(),
  thinking: thinking.nullish(),
  output_config: z
    .strictObject({
      effort: z.enum(["low", "medium", "high", "xhigh", "max"]).nullish(),
      format: z.strictObject({ type: z.literal("json_schema"), schema: jsonObject }).nullish(),
    })
    .nullish(),
} as const;

const withoutEffect = {
  temperature: z.number().min(0).max(1).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  top_k: z.int().min(0).nullish(),
  metadata: z.strictObject({ user_id: z.string().max(512).nullish() }).nullish(),
  service_tier: z.enum(["auto", "standard_only"]).nullish(),
  speed: z.enum(["standard", "fast"]).nullish(),
  inference_geo: z.string().max(64).nullish(),
  cache_control: cacheControl,
  context_management: jsonObject.nullish(),
} as const;

const refusedUnlessEmpty = {
  container: z.null().optional(),
  mcp_servers: z.array(z.unknown()).max(0).nullish(),
} as const;

export const unsupportedByMessages: Unsupported = {
  container: "Containers are not supported by this server: leave `container` out.",
  mcp_servers: "MCP servers are not connected by this server: leave `mcp_servers` out.",
};

export const messageRequest = z.strictObject({
  ...input,
  max_tokens: tokenLimit.unwrap().unwrap(),
  stop_sequences: z.array(z.string().min(1).max(1_024)).max(4).nullish(),
  stream: z.boolean().nullish(),
  ...withoutEffect,
  ...refusedUnlessEmpty,
});

export const countRequest = z.strictObject({ ...input, ...withoutEffect, ...refusedUnlessEmpty });

export type MessageRequest = z.output<typeof messageRequest>;
export type CountRequest = z.output<typeof countRequest>;
export type MessageParam = CountRequest["messages"][number];

/** Names of what was given and has no effect. */
export function ignoredParameters(request: CountRequest): string[] {
  const ignored = Object.keys(withoutEffect).filter((field) => request[field as keyof typeof withoutEffect] != null);
  if (request.thinking?.type === "enabled") ignored.push("thinking.budget_tokens");
  if (request.output_config?.effort != null) ignored.push("output_config.effort");
  for (const field of ["strict", "input_examples", "eager_input_streaming"] as const) {
    if (request.tools?.some((each) => each[field])) ignored.push(`tools.${field}`);
  }
  return ignored;
}
