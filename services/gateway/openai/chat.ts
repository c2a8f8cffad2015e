// POST /v1/chat/completions, as the pipeline needs it.
import type { PromptEvent } from "#gen/drawbridge/v1/prompt";
import { newId } from "../../kit/random.ts";
import type { AnswerForm, Endpoint, StreamForm } from "../pipeline/endpoint.ts";
import { createChunkFrames, doneFrame, errorFrame } from "./chunks.ts";
import { type AnswerIdentity, completionBody, finishReason } from "./completion.ts";
import { parseChatRequest } from "./parse.ts";
import { ignoredParameters } from "./schema.ts";
import { promptOf } from "./translate.ts";

export const chatEndpoint: Endpoint = {
  read(body, { created, config }) {
    const request = parseChatRequest(body);
    const identity = { id: newId("chatcmpl").replace("_", "-"), created, model: request.model };
    return {
      prompt: promptOf(request, { outputTokensMax: config.output_tokens_max }),
      streamed: request.stream === true,
      inputField: "messages",
      ignored: ignoredParameters(request),
      answer: chatAnswer(identity, request.stream_options?.include_usage === true),
    };
  },
};

function chatAnswer(identity: AnswerIdentity, includeUsage: boolean): AnswerForm {
  return {
    whole: ({ finished: { stopReason, outcome }, ...content }) =>
      JSON.stringify(completionBody(identity, { ...content, finish: finishReason(stopReason), usage: outcome?.usage })),
    stream: () => chatStream(identity, includeUsage),
  };
}

function chatStream(identity: AnswerIdentity, includeUsage: boolean): StreamForm {
  const frames = createChunkFrames(identity, includeUsage);
  return {
    open: () => frames.first,
    event({ event }: PromptEvent) {
      switch (event.case) {
        case "text":
          return frames.text(event.value.text);
        case "reasoning":
          return frames.reasoning(event.value.text);
        case "toolCall":
          return frames.toolCall(event.value);
        default:
          return "";
      }
    },
    close({ stopReason, outcome }) {
      const usage = includeUsage ? frames.usage(outcome?.usage) : "";
      return frames.finish(finishReason(stopReason)) + usage + doneFrame;
    },
    fail: ({ body }) => errorFrame(body),
  };
}
