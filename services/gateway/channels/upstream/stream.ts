// An upstream's stream as the client is to see it: the model's public name, usage only for who asked for it, and held back at the end what must
// wait for the settlement. Each event is looked at as it passes, and none is kept.
import type { Usage } from "#gen/drawbridge/v1/usage";
import { DrawbridgeError } from "../../../kit/errors.ts";
import { createTokenCounter } from "../../../kit/tokens.ts";
import { choiceTexts, reportedUsage } from "./usage.ts";
import { isObject, type JsonObject, objectsOf, parseObject } from "./json.ts";
import type { ServerSentEvent } from "./sse.ts";

/** What became of one event. */
export interface Passed {
  /** The frame for the client; "": nothing is told of it. */
  readonly frame: string;
  /** Whether it holds something that the client waits for: from then on nothing can be taken back. */
  readonly content: boolean;
}

export interface StreamRewriter {
  /** Throws for an event that is an error or no event of this route. */
  pass(event: ServerSentEvent): Passed;
  /** Whether the answer is complete: the connection's end is then its end, too. */
  readonly finished: boolean;
  /** Whether nothing more comes. */
  readonly over: boolean;
  /** What ends the stream, after the settlement. */
  end(usage: Usage): string;
  /** As the upstream says it. */
  readonly usage: Usage | undefined;
  /** Output tokens so far, counted here. */
  readonly outputTokens: number;
  /** The id of the answer, once it is known. */
  readonly id: string | undefined;
}

export interface RewriterOptions {
  /** The model's public name. */
  readonly model: string;
  /** Whether the client asked for usage. */
  readonly includeUsage: boolean;
  /** What the chunks call themselves. */
  readonly object: string;
}

const nothing: Passed = { frame: "", content: false };
const doneFrame = "data: [DONE]\n\n";

/** Chat and legacy completions: unnamed events, and [DONE]. */
export function createChunkRewriter({ model, includeUsage, object }: RewriterOptions): StreamRewriter {
  const counter = createEstimate();
  let usage: Usage | undefined;
  let usageFrame = "";
  let finished = false;
  let over = false;
  let head: JsonObject = { object };

  const chunkOf = (data: string): Record<string, unknown> => {
    const chunk = parseObject(data);
    if (!chunk) throw new DrawbridgeError("AGENT_PROTOCOL", "The upstream sent a chunk that is no JSON object.");
    if (chunk["error"] != null) throw upstreamSaid(chunk["error"]);
    const { error: _none, ...rest } = chunk;
    return rest;
  };

  return {
    pass({ data }) {
      if (data === "[DONE]") {
        finished = true;
        over = true;
        return nothing;
      }
      const chunk = chunkOf(data);
      usage = reportedUsage(chunk["usage"]) ?? usage;
      if ("model" in chunk) chunk["model"] = model;
      const choices = objectsOf(chunk["choices"]);
      if (choices.length === 0 && isObject(chunk["usage"])) {
        // Told at the end, when it is settled.
        if (includeUsage) usageFrame = frameOf(chunk);
        return nothing;
      }
      if (!includeUsage) delete chunk["usage"];
      head = { id: chunk["id"], object: chunk["object"] ?? object, created: chunk["created"] };
      const texts = choices.flatMap((choice) => choiceTexts(choice, choice["delta"]));
      for (const text of texts) counter.push(text);
      const ended = choices.some((choice) => choice["finish_reason"] != null);
      finished ||= ended;
      return { frame: frameOf(chunk), content: ended || texts.length > 0 || choices.some(hasOtherContent) };
    },
    get finished() {
      return finished;
    },
    get over() {
      return over;
    },
    end(settled) {
      if (!includeUsage) return doneFrame;
      const made = () => frameOf({ ...head, model, choices: [], usage: usageBody(settled) });
      return (usageFrame || made()) + doneFrame;
    },
    get usage() {
      return usage;
    },
    get outputTokens() {
      return counter.tokens;
    },
    get id() {
      return typeof head["id"] === "string" ? head["id"] : undefined;
    },
  };
}

/** Tool calls without a text yet, and sounds, are content. */
function hasOtherContent({ delta }: JsonObject): boolean {
  if (!isObject(delta)) return false;
  return objectsOf(delta["tool_calls"]).length > 0 || isObject(delta["function_call"]) || isObject(delta["audio"]);
}

/** Events that say that something began, before there is anything of it. */
const beginnings = new Set([
  "response.created",
  "response.queued",
  "response.in_progress",
  "response.output_item.added",
  "response.content_part.added",
  "response.reasoning_summary_part.added",
]);

/** /v1/responses: named events, the last of which carries the whole response; no [DONE]. */
export function createResponseRewriter({ model }: RewriterOptions): StreamRewriter {
  const counter = createEstimate();
  let usage: Usage | undefined;
  let id: string | undefined;
  let last = "";
  return {
    pass({ data }) {
      if (data === "[DONE]") return nothing;
      const event = parseObject(data);
      const type = event?.["type"];
      if (!event || typeof type !== "string") {
        throw new DrawbridgeError("AGENT_PROTOCOL", "The upstream sent an event that is no JSON object with a type.");
      }
      if (type === "error") throw upstreamSaid(event["error"] ?? event);
      const response = isObject(event["response"]) ? event["response"] : undefined;
      if (type === "response.failed") throw upstreamSaid(response?.["error"]);
      const { delta } = event;
      if (typeof delta === "string") counter.push(delta);
      if (typeof response?.["id"] === "string") id = response["id"];
      usage = reportedUsage(response?.["usage"]) ?? usage;
      const told = response && "model" in response ? { ...event, response: { ...response, model } } : event;
      const frame = `event: ${type.replace(/[^\w.-]/g, "")}\n${frameOf(told)}`;
      if (type === "response.completed" || type === "response.incomplete") {
        last = frame;
        return { frame: "", content: true };
      }
      return { frame, content: !beginnings.has(type) };
    },
    get finished() {
      return last !== "";
    },
    get over() {
      return last !== "";
    },
    end: () => last,
    get usage() {
      return usage;
    },
    get outputTokens() {
      return counter.tokens;
    },
    get id() {
      return id;
    },
  };
}

/** So many characters are counted; of what comes after them the share is taken for the same. */
const countedCharsMax = 64 << 10;

/** Output tokens for an answer whose upstream may not tell them. Takes bounded time, however much there is. */
export function createEstimate() {
  const counter = createTokenCounter();
  let counted = 0;
  let chars = 0;
  return {
    push(text: string) {
      chars += text.length;
      if (counted + text.length > countedCharsMax && counted > 0) return;
      counter.push(text);
      counted += text.length;
    },
    get tokens() {
      return counted === 0 ? 0 : Math.ceil((counter.tokens * chars) / counted);
    },
  };
}

/** An error inside a stream. Its words are for the log. */
export function upstreamSaid(error: unknown): DrawbridgeError {
  const message = isObject(error) ? error["message"] : error;
  const text = typeof message === "string" ? message.slice(0, 500) : "no message";
  return new DrawbridgeError("AGENT_ERROR", "The upstream ended its answer with an error.", { cause: text });
}

export function frameOf(chunk: object): string {
  return `data: ${JSON.stringify(chunk)}\n\n`;
}

function usageBody({ inputTokens, outputTokens, cachedInputTokens, reasoningTokens }: Usage) {
  const [input, output] = [Number(inputTokens), Number(outputTokens)];
  return {
    prompt_tokens: input,
    completion_tokens: output,
    total_tokens: input + output,
    prompt_tokens_details: { cached_tokens: Number(cachedInputTokens) },
    completion_tokens_details: { reasoning_tokens: Number(reasoningTokens) },
  };
}
