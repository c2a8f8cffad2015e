// What an upstream says that was used, in each of the forms that its routes have; and an estimate where it says nothing.
import { create } from "@bufbuild/protobuf";
import { type Usage, UsageSchema, UsageSource } from "#gen/drawbridge/v1/usage";
import { countTokens } from "../../../kit/tokens.ts";
import { countOf, isObject, type JsonObject, objectsOf } from "./json.ts";

/** `prompt_tokens` and `completion_tokens`, or `input_tokens` and `output_tokens`; undefined: it says nothing that can be billed. */
export function reportedUsage(value: unknown): Usage | undefined {
  if (!isObject(value)) return undefined;
  const input = countOf(value["prompt_tokens"]) ?? countOf(value["input_tokens"]);
  const output = countOf(value["completion_tokens"]) ?? countOf(value["output_tokens"]);
  if (input === undefined && output === undefined) return undefined;
  const inputDetails = value["prompt_tokens_details"] ?? value["input_tokens_details"];
  const outputDetails = value["completion_tokens_details"] ?? value["output_tokens_details"];
  const cached = isObject(inputDetails) ? countOf(inputDetails["cached_tokens"]) : undefined;
  const reasoning = isObject(outputDetails) ? countOf(outputDetails["reasoning_tokens"]) : undefined;
  return create(UsageSchema, {
    inputTokens: BigInt(input ?? 0),
    cachedInputTokens: BigInt(Math.min(cached ?? 0, input ?? 0)),
    outputTokens: BigInt(output ?? 0),
    reasoningTokens: BigInt(Math.min(reasoning ?? 0, output ?? 0)),
    source: UsageSource.REPORTED,
  });
}

export function estimatedUsage(inputTokens: number, outputTokens: number): Usage {
  return create(UsageSchema, {
    inputTokens: BigInt(inputTokens),
    outputTokens: BigInt(outputTokens),
    source: UsageSource.ESTIMATED,
  });
}

/** What an image or a sound is taken for, whatever its bytes are: OpenAI's published rule of thumb for an image. */
const mediaTokens = 765;
const messageOverhead = 4;

/** Fields of a request that the model reads. */
const inputFields = [
  "messages",
  "input",
  "prompt",
  "instructions",
  "tools",
  "functions",
  "response_format",
  "suffix",
  // Of a rerank.
  "query",
  "documents",
  // Of forms.
  "file",
  "image",
  "image[]",
  "mask",
];

/** What a request's input may come to, whichever route it is for. */
export function estimateInput(body: JsonObject): number {
  const messages = objectsOf(body["messages"]).length;
  return inputFields.reduce((sum, field) => sum + tokensIn(body[field]), messages * messageOverhead);
}

const depthMax = 64;

function tokensIn(value: unknown, depth = 0): number {
  if (typeof value === "string") return isMedia(value) ? mediaTokens : countTokens(value);
  // Token ids, as legacy completions and embeddings take them.
  if (typeof value === "number") return 1;
  if (typeof value !== "object" || value === null || depth > depthMax) return 0;
  if (Array.isArray(value)) return value.reduce((sum: number, each) => sum + tokensIn(each, depth + 1), 0);
  if ("data" in value && typeof value.data === "string" && "format" in value) return mediaTokens;
  if ("filename" in value && "sha256" in value) return mediaTokens;
  return Object.entries(value).reduce(
    (sum, [name, each]) => (name === "type" || name === "role" ? sum : sum + tokensIn(each, depth + 1)),
    0,
  );
}

function isMedia(text: string): boolean {
  return text.startsWith("data:") && text.slice(0, 128).includes(";base64,");
}

/** The texts of a whole answer, for an estimate. */
export function outputTexts(answer: JsonObject): string[] {
  const choices = objectsOf(answer["choices"]).flatMap((choice) => choiceTexts(choice, choice["message"]));
  const items = objectsOf(answer["output"]).flatMap((item) => [
    ...objectsOf(item["content"]).map((part) => part["text"]),
    item["arguments"],
  ]);
  // The last is a transcription's.
  return [...choices, ...items, answer["text"]].filter((text) => typeof text === "string");
}

/** The texts of a choice and its message or delta. */
export function choiceTexts(choice: JsonObject, content: unknown): string[] {
  const message = isObject(content) ? content : {};
  const calls = objectsOf(message["tool_calls"]).flatMap(({ function: called }) =>
    isObject(called) ? [called["name"], called["arguments"]] : [],
  );
  const texts = [
    choice["text"],
    message["content"],
    message["reasoning_content"],
    message["reasoning"],
    message["refusal"],
    ...calls,
  ];
  return texts.filter((text) => typeof text === "string" && text !== "") as string[];
}
