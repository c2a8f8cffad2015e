// POST /v1/completions: one text in, its continuation out. The form that chat completions have replaced.
import { create } from "@bufbuild/protobuf";
import { z } from "zod";
import { MessageSchema, Role } from "#gen/drawbridge/v1/prompt";
import { newId } from "../../kit/random.ts";
import type { AnswerForm, Endpoint, StreamForm } from "../pipeline/endpoint.ts";
import { promptFrom, textPart } from "../pipeline/prompt.ts";
import { doneFrame, errorFrame } from "./chunks.ts";
import { type AnswerIdentity, type FinishReason, finishReason, usageBody } from "./completion.ts";
import { checkStreaming, parseBody, type Unsupported } from "./parse.ts";
import { modelName, stopSequences, streaming, text, tokenLimit, withoutEffect } from "./schema.ts";

const { temperature, top_p, presence_penalty, frequency_penalty, logit_bias, seed, user } = withoutEffect;
const ignored = { temperature, top_p, presence_penalty, frequency_penalty, logit_bias, seed, user } as const;

/** Would change what the answer is; taken only where it asks for nothing. */
const refusedUnlessEmpty = {
  n: z.literal(1).nullish(),
  best_of: z.literal(1).nullish(),
  echo: z.literal(false).nullish(),
  logprobs: z.null().optional(),
  suffix: z.literal("").nullish(),
} as const;

const unsupported: Unsupported = {
  n: "Only one choice can be produced: leave `n` out, or set it to 1.",
  best_of: "Only one choice can be produced: leave `best_of` out, or set it to 1.",
  echo: "The prompt is not repeated by this server: leave `echo` out.",
  logprobs: "Log probabilities are not known to this server: leave `logprobs` out.",
  suffix: "Insertion is not supported by this server: leave `suffix` out.",
};

const oneText = "expected one text, or a list of one text; send a request for each of several, and no tokens";

const completionRequest = z.strictObject({
  model: modelName,
  prompt: z.union([text.min(1), z.array(text.min(1)).length(1, oneText)], oneText),
  max_tokens: tokenLimit,
  stop: stopSequences,
  ...streaming,
  ...ignored,
  ...refusedUnlessEmpty,
});

export const completionsEndpoint: Endpoint = {
  read(body, { created, config }) {
    const request = parseBody(completionRequest, body, unsupported);
    checkStreaming(request);
    const { model, prompt, stop } = request;
    const parts = [textPart(typeof prompt === "string" ? prompt : prompt.join(""))];
    return {
      prompt: promptFrom({
        model,
        messages: [create(MessageSchema, { role: Role.USER, parts })],
        outputTokensMax: request.max_tokens,
        outputTokensLimit: config.output_tokens_max,
        stop: typeof stop === "string" ? [stop] : (stop ?? []),
      }),
      streamed: request.stream === true,
      inputField: "prompt",
      ignored: [
        ...Object.keys(ignored).filter((field) => request[field as keyof typeof ignored] != null),
        ...(request.stream_options?.include_obfuscation ? ["stream_options.include_obfuscation"] : []),
      ],
      answer: completionAnswer(
        { id: newId("cmpl").replace("_", "-"), created, model },
        request.stream_options?.include_usage === true,
      ),
    };
  },
};

function completionAnswer(identity: AnswerIdentity, includeUsage: boolean): AnswerForm {
  return {
    whole: ({ text: answer, finished: { stopReason, outcome } }) =>
      JSON.stringify({
        ...head(identity),
        choices: [choice(answer, finishReason(stopReason))],
        usage: usageBody(outcome?.usage),
      }),
    stream: () => completionStream(identity, includeUsage),
  };
}

/** This form has no place for reasoning. */
function completionStream(identity: AnswerIdentity, includeUsage: boolean): StreamForm {
  const frame = (choices: object[], usage: object | null = null) =>
    `data: ${JSON.stringify({ ...head(identity), choices, ...(includeUsage ? { usage } : {}) })}\n\n`;
  return {
    open: () => "",
    event: ({ event }) => (event.case === "text" ? frame([choice(event.value.text, null)]) : ""),
    close({ stopReason, outcome }) {
      const usage = includeUsage ? frame([], usageBody(outcome?.usage)) : "";
      return frame([choice("", finishReason(stopReason))]) + usage + doneFrame;
    },
    fail: ({ body }) => errorFrame(body),
  };
}

function head({ id, created, model }: AnswerIdentity) {
  return { id, object: "text_completion", created, model };
}

function choice(answer: string, finish: FinishReason | null) {
  return { text: answer, index: 0, logprobs: null, finish_reason: finish };
}
