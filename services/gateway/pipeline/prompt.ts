// What endpoints put a prompt together from, so that a request means the same whichever form it came in.
import { create } from "@bufbuild/protobuf";
import {
  type ContentPart,
  ContentPartSchema,
  ImageSchema,
  type Message,
  type Prompt,
  PromptSchema,
  type ResponseFormat,
  ResponseFormatSchema,
  type Tool,
  type ToolChoice,
  ToolChoiceMode,
  ToolChoiceSchema,
  ToolSchema,
} from "#gen/drawbridge/v1/prompt";
import { countTokens } from "../../kit/tokens.ts";
import { ParameterError } from "../openai/parse.ts";

export interface PromptParts {
  readonly model: string;
  readonly messages: Message[];
  /** What the client asks for at most; absent: it does not say. */
  readonly outputTokensMax: number | null | undefined;
  /** The most output tokens of any answer: who asks for more gets this. */
  readonly outputTokensLimit: number;
  readonly stop?: readonly string[];
  readonly tools?: Tools | undefined;
  readonly responseFormat?: ResponseFormat | undefined;
}

/** The client's tools, and how free the agent is in calling them. */
export interface Tools {
  readonly tools: Tool[];
  readonly toolChoice: ToolChoice | undefined;
}

export function promptFrom(parts: PromptParts): Prompt {
  const { model, messages, outputTokensMax, outputTokensLimit, stop = [], tools, responseFormat } = parts;
  return create(PromptSchema, {
    model,
    messages,
    outputTokensMax: BigInt(outputTokensMax == null ? 0 : Math.min(outputTokensMax, outputTokensLimit)),
    stop: [...stop],
    ...tools,
    responseFormat,
    inputTokensEstimate: BigInt(inputTokens(messages, tools?.tools ?? [], responseFormat)),
  });
}

export function textPart(value: string): ContentPart {
  return create(ContentPartSchema, { part: { case: "text", value } });
}

export function imagePart(mediaType: string, base64: string): ContentPart {
  const image = create(ImageSchema, { mediaType, data: Buffer.from(base64, "base64") });
  return create(ContentPartSchema, { part: { case: "image", value: image } });
}

const dataUrl = /^data:(image\/[a-z0-9.+-]+);base64,([A-Za-z0-9+/]+={0,2})$/i;

/** Images by value only: fetching addresses on a caller's behalf would reach into the operator's network. */
export function imageUrlPart(url: string, param: string): ContentPart {
  const [, mediaType, base64] = dataUrl.exec(url) ?? [];
  if (!mediaType || !base64) {
    throw new ParameterError("Images are taken by value only: send a data URL such as data:image/png;base64,….", param);
  }
  return imagePart(mediaType, base64);
}

export interface ToolDefinition {
  readonly name: string;
  readonly description?: string | null | undefined;
  /** JSON Schema. */
  readonly parameters?: object | null | undefined;
  /** The field that holds it. */
  readonly param: string;
}

/** The most characters of a JSON Schema. */
const schemaCharsMax = 262_144;

function schemaText(schema: object, param: string): string {
  const text = JSON.stringify(schema);
  if (text.length <= schemaCharsMax) return text;
  throw new ParameterError(`Invalid value for '${param}': more than ${schemaCharsMax} characters.`, param);
}

function toolOf({ name, description, parameters, param }: ToolDefinition): Tool {
  const parametersJson = parameters ? schemaText(parameters, param) : "";
  return create(ToolSchema, { name, description: description ?? "", parametersJson });
}

/** What a request says about the calling of its tools. */
export interface ChoiceOfTools {
  readonly mode: "auto" | "none" | "required";
  /** Only these may be called; absent: all. */
  readonly names?: readonly string[] | undefined;
  /** At most one call in an answer. */
  readonly single: boolean;
}

/** undefined: the request has no tools. Throws a ParameterError where the choice is none of them. */
export function toolsOf(definitions: readonly ToolDefinition[], choice: ChoiceOfTools): Tools | undefined {
  const { mode, names, single } = choice;
  if (definitions.length === 0) {
    if (mode !== "required" && !names) return undefined;
    throw new ParameterError("`tool_choice` is only allowed when `tools` are given.", "tool_choice");
  }
  const known = new Set<string>();
  for (const { name, param } of definitions) {
    if (known.has(name)) throw new ParameterError(`Invalid value for '${param}': '${name}' is defined twice.`, param);
    known.add(name);
  }
  const missing = names?.find((name) => !known.has(name));
  if (missing !== undefined) {
    throw new ParameterError(`The tool '${missing}' of \`tool_choice\` is not among \`tools\`.`, "tool_choice");
  }
  const [only] = names?.length === 1 ? names : [];
  // With one by name the others go along, and the worker refuses their calls: the request that brings the result offers all of them again, and
  // continues this conversation only if it is about the same tools.
  const named = mode === "required" && only !== undefined;
  const allowed = definitions.filter(({ name }) => named || !names || names.includes(name));
  return {
    tools: allowed.map(toolOf),
    toolChoice: create(ToolChoiceSchema, {
      mode: modes[mode],
      name: mode === "required" ? (only ?? "") : "",
      single,
    }),
  };
}

const modes = {
  auto: ToolChoiceMode.AUTO,
  none: ToolChoiceMode.NONE,
  required: ToolChoiceMode.REQUIRED,
} as const;

export interface JsonSchema {
  readonly name: string;
  readonly description?: string | null | undefined;
  readonly schema?: object | null | undefined;
}

/** JSON that follows a schema; without one, any JSON object. */
export function responseFormatOf(schema: JsonSchema | undefined, param: string): ResponseFormat {
  if (!schema) return create(ResponseFormatSchema, { format: { case: "jsonObject", value: {} } });
  const { name, description } = schema;
  const schemaJson = schemaText(schema.schema ?? {}, param);
  return create(ResponseFormatSchema, {
    format: { case: "jsonSchema", value: { name, description: description ?? "", schemaJson } },
  });
}

/** What a message costs beyond its text, and what an image is taken for, in tokens: OpenAI's published rules of thumb. */
const messageOverhead = 4;
const imageTokens = 765;

function inputTokens(messages: readonly Message[], tools: readonly Tool[], format: ResponseFormat | undefined): number {
  let total = 0;
  for (const message of messages) {
    total += messageOverhead;
    for (const { part } of message.parts) total += part.case === "text" ? countTokens(part.value) : imageTokens;
    for (const call of message.toolCalls) total += countTokens(call.name) + countTokens(call.argumentsJson);
  }
  for (const { name, description, parametersJson } of tools) {
    total += messageOverhead + countTokens(name) + countTokens(description) + countTokens(parametersJson);
  }
  if (format?.format.case === "jsonSchema") total += countTokens(format.format.value.schemaJson);
  return total;
}
