// Transcriptions and images that are streamed: events with a type, of which the last ones carry usage. They pass as they came.
import { create } from "@bufbuild/protobuf";
import { type Usage, UsageSchema } from "#gen/drawbridge/v1/usage";
import { DrawbridgeError } from "../../../kit/errors.ts";
import { parseObject } from "./json.ts";
import { createEstimate, frameOf, type StreamRewriter, upstreamSaid } from "./stream.ts";
import { reportedUsage } from "./usage.ts";

const transcribed = "transcript.text.done";
/** An answer is complete with one of these; of several images each has its own. */
const ends = new Set([transcribed, "image_generation.completed", "image_edit.completed"]);

export function createTypedRewriter(): StreamRewriter {
  const counter = createEstimate();
  let usage: Usage | undefined;
  /** The last one waits for the settlement. */
  let held = "";
  let over = false;
  return {
    pass({ data }) {
      if (data === "[DONE]") {
        over = true;
        return { frame: "", content: false };
      }
      const event = parseObject(data);
      const type = event?.["type"];
      if (!event || typeof type !== "string") {
        throw new DrawbridgeError("AGENT_PROTOCOL", "The upstream sent an event that is no JSON object with a type.");
      }
      if (type === "error") throw upstreamSaid(event["error"] ?? event);
      if (typeof event["delta"] === "string") counter.push(event["delta"]);
      usage = sumOf(usage, reportedUsage(event["usage"]));
      over ||= type === transcribed;
      const before = held;
      const frame = `event: ${type.replace(/[^\w.-]/g, "")}\n${frameOf(event)}`;
      held = ends.has(type) ? frame : "";
      return { frame: held === "" ? before + frame : before, content: true };
    },
    get finished() {
      return held !== "";
    },
    get over() {
      return over;
    },
    end: () => held,
    get usage() {
      return usage;
    },
    get outputTokens() {
      return counter.tokens;
    },
    id: undefined,
  };
}

function sumOf(one: Usage | undefined, other: Usage | undefined): Usage | undefined {
  if (!one || !other) return one ?? other;
  return create(UsageSchema, {
    inputTokens: one.inputTokens + other.inputTokens,
    cachedInputTokens: one.cachedInputTokens + other.cachedInputTokens,
    outputTokens: one.outputTokens + other.outputTokens,
    reasoningTokens: one.reasoningTokens + other.reasoningTokens,
    source: one.source,
  });
}
