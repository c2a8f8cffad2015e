// POST /v1/messages, as the pipeline needs it, and POST /v1/messages/count_tokens.
import type { FastifyRequest } from "fastify";
import type { GatewaySettings } from "../config.ts";
import { newId } from "../../kit/random.ts";
import { modelNotFound } from "../openai/models-route.ts";
import type { Models } from "../openai/models.ts";
import { parseBody } from "../openai/parse.ts";
import type { Endpoint } from "../pipeline/endpoint.ts";
import { createMessageStream } from "./message-stream.ts";
import { messageBody } from "./message.ts";
import { countRequest, ignoredParameters, messageRequest, unsupportedByMessages } from "./schema.ts";
import { promptOf } from "./translate.ts";

export const messagesEndpoint: Endpoint = {
  read(body, { requestId, config }) {
    const request = parseBody(messageRequest, body, unsupportedByMessages);
    const prompt = promptOf(request, config.output_tokens_max);
    const { thinking } = request;
    const shown = thinking != null && thinking.type !== "disabled" && thinking.display !== "omitted";
    const identity = { id: newId("msg"), model: request.model, thinking: shown };
    const inputTokensEstimate = Number(prompt.inputTokensEstimate);
    return {
      prompt,
      streamed: request.stream === true,
      inputField: "messages",
      ignored: ignoredParameters(request),
      answer: {
        whole: (answer) => JSON.stringify(messageBody(identity, answer)),
        stream: () => createMessageStream({ identity, inputTokensEstimate, requestId }),
      },
    };
  },
};

export interface CountOptions {
  readonly models: Models;
  readonly config: GatewaySettings;
}

/** The estimate that limits and holds go by. It costs nothing. */
export async function countTokens({ models, config }: CountOptions, { body }: FastifyRequest) {
  const request = parseBody(countRequest, body, unsupportedByMessages);
  if (!(await models.find(request.model))) throw modelNotFound(request.model);
  return { input_tokens: Number(promptOf(request, config.output_tokens_max).inputTokensEstimate) };
}
