// The body of a request for an upstream channel: checked as little as routing and money need, everything else passed on as it came.
import type { FormData } from "undici";
import { type ChannelRoute, modelStreams } from "./spec.ts";
import { ParameterError } from "../openai/parse.ts";
import { FormBody, formFor } from "./form.ts";
import { isObject, type JsonObject } from "./upstream/json.ts";
import { estimateInput } from "./upstream/usage.ts";

export interface ChannelRequest {
  readonly route: ChannelRoute;
  readonly body: JsonObject;
  /** What `body` was said by; undefined: by JSON. */
  readonly form: FormData | undefined;
  /** The model's public name. */
  readonly model: string;
  readonly stream: boolean;
  /** Whether the client wants usage in a stream. */
  readonly includeUsage: boolean;
}

/** Routes whose answers stream as events. */
const streamed: ReadonlySet<ChannelRoute> = new Set([
  ...modelStreams,
  "images/generations",
  "images/edits",
  "audio/transcriptions",
]);

/** Fields that bound the output. */
const outputLimits = ["max_completion_tokens", "max_tokens", "max_output_tokens"] as const;
/** The most answers to one prompt, as OpenAI has it. */
const answersMax = 128;

/** Throws a ParameterError. */
export function channelRequest(route: ChannelRoute, sent: unknown): ChannelRequest {
  const [body, form] = sent instanceof FormBody ? [sent.fields, sent.data] : [sent, undefined];
  if (!isObject(body)) throw new ParameterError("The body must be a JSON object.");
  const { model, stream, stream_options: options } = body;
  const missing = route === "moderations" ? (model ?? "omni-moderation-latest") : model;
  if (missing === undefined) {
    throw new ParameterError("Missing required parameter: 'model'.", "model", "missing_required_parameter");
  }
  if (typeof missing !== "string" || missing === "" || missing.length > 256) {
    throw new ParameterError("Invalid value for 'model': expected a model's name.", "model", "invalid_value");
  }
  if (stream != null && typeof stream !== "boolean") {
    throw new ParameterError("Invalid value for 'stream': expected true or false.", "stream", "invalid_value");
  }
  if (stream && !streamed.has(route)) {
    throw new ParameterError(
      "Streams are not supported on this route: leave `stream` out.",
      "stream",
      "unsupported_parameter",
    );
  }
  for (const field of [...outputLimits, "n"]) checkCount(body, field);
  const includeUsage = isObject(options) && options["include_usage"] === true;
  return { route, body, form, model: missing, stream: stream === true, includeUsage };
}

function checkCount(body: JsonObject, field: string): void {
  const value = body[field];
  const most = field === "n" ? answersMax : 10_000_000;
  if (value == null || (Number.isSafeInteger(value) && Number(value) >= 1 && Number(value) <= most)) return;
  throw new ParameterError(
    `Invalid value for '${field}': expected a whole number from 1 to ${most}.`,
    field,
    "invalid_value",
  );
}

export interface TokenBounds {
  readonly input: number;
  /** The request's own limit over all its answers; 0: it has none. undefined: the route has no output that is paid by tokens. */
  readonly output: number | undefined;
}

/** Routes whose answers are paid by their input alone. */
const withoutOutput: ReadonlySet<ChannelRoute> = new Set(["embeddings", "moderations", "rerank", "audio/speech"]);

export function boundsOf({ route, body }: ChannelRequest, outputTokensMax: number): TokenBounds {
  const input = estimateInput(body);
  if (withoutOutput.has(route)) return { input, output: undefined };
  const asked = outputLimits.map((field) => body[field]).find((value) => value != null);
  const answers = Math.max(Number(body["n"] ?? 1), Number(body["best_of"] ?? 1) || 1, 1);
  return { input, output: asked == null ? 0 : Math.min(Number(asked), outputTokensMax) * answers };
}

/** What is sent: the upstream's own name of the model, usage asked for where it streams, limits within ours. */
export function upstreamBody(
  { route, body, form, stream }: ChannelRequest,
  model: string,
  outputTokensMax: number,
): string | FormData {
  if (form) return formFor(form, model);
  const sent: Record<string, unknown> = { ...body, model };
  for (const field of outputLimits) if (Number(sent[field]) > outputTokensMax) sent[field] = outputTokensMax;
  if (stream && modelStreams.has(route) && route !== "responses") {
    const options = isObject(body["stream_options"]) ? body["stream_options"] : {};
    sent["stream_options"] = { ...options, include_usage: true };
  }
  return JSON.stringify(sent);
}
