// POST /v1/responses, as the pipeline needs it.
import { type Finished, type Message, type PromptEvent, PromptEventSchema } from "#gen/drawbridge/v1/prompt";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { newId } from "../../kit/random.ts";
import { ParameterError, parseBody } from "../openai/parse.ts";
import { isCancelled, type WholeAnswer } from "../pipeline/collect.ts";
import type { AnswerForm, Endpoint, StreamForm } from "../pipeline/endpoint.ts";
import { namedFrame } from "../pipeline/frames.ts";
import { createOutput, type OutputEvent } from "./output.ts";
import { answerMessage, endState, type OutputItem, responseBody, type ResponseIdentity } from "./response.ts";
import { ignoredParameters, responseRequest, type ResponseRequest, unsupportedByResponses } from "./schema.ts";
import type { ResponseStore } from "./store.ts";
import { messagesOf, promptOf } from "./translate.ts";

export function createResponsesEndpoint(store: ResponseStore): Endpoint {
  return {
    read(body, { userId, created, config }) {
      const request = parseBody(responseRequest, body, unsupportedByResponses);
      const conversation = [...previousOf(store, userId, request), ...messagesOf(request.input)];
      const prompt = promptOf(request, conversation, config.output_tokens_max);
      return {
        prompt,
        streamed: request.stream === true,
        inputField: "input",
        ignored: ignoredParameters(request),
        answer: responseAnswer({ identity: { id: newId("resp"), created }, request, conversation, store, userId }),
      };
    },
  };
}

function previousOf(store: ResponseStore, userId: string, request: ResponseRequest): readonly Message[] {
  const { previous_response_id: id } = request;
  if (id == null) return [];
  const previous = store.get(userId, id);
  if (previous) return previous.conversation;
  const message = `Previous response with id '${id}' not found. It is not stored any more, or not here: send the whole input.`;
  throw new ParameterError(message, "previous_response_id", "previous_response_not_found");
}

interface Responding {
  readonly identity: ResponseIdentity;
  readonly request: ResponseRequest;
  /** What the answer continues. */
  readonly conversation: readonly Message[];
  readonly store: ResponseStore;
  readonly userId: string;
}

function responseAnswer(responding: Responding): AnswerForm {
  return {
    whole(answer) {
      const output = createOutput();
      for (const event of eventsOf(answer)) output.add(event);
      output.close();
      const complete = !answer.tooLong && !isCancelled(answer.finished);
      return JSON.stringify(completed(responding, answer.finished, output.items, complete));
    },
    stream: () => responseStream(responding),
  };
}

/** The final response; one that is complete is stored, unless the client says otherwise. */
function completed(
  { identity, request, conversation, store, userId }: Responding,
  finished: Finished,
  output: readonly OutputItem[],
  complete: boolean,
) {
  const body = responseBody(identity, request, endState(finished, output));
  if (complete && request.store !== false) {
    store.set(userId, identity.id, { body, conversation: [...conversation, answerMessage(output)] });
  }
  return body;
}

/** A whole answer in the order in which its parts usually come. */
function eventsOf({ reasoning, text, toolCalls }: WholeAnswer): PromptEvent[] {
  const events: PromptEvent[] = [];
  const add = (event: MessageInitShape<typeof PromptEventSchema>["event"]) =>
    events.push(create(PromptEventSchema, { event }));
  if (reasoning !== "") add({ case: "reasoning", value: { text: reasoning } });
  if (text !== "") add({ case: "text", value: { text } });
  for (const [index, call] of toolCalls.entries()) add({ case: "toolCall", value: { index, ...call } });
  return events;
}

function responseStream(responding: Responding): StreamForm {
  const { identity, request } = responding;
  const output = createOutput();
  let sequence = 0;
  const frame = ({ type, ...fields }: OutputEvent) =>
    namedFrame(type, { type, sequence_number: sequence++, ...fields });
  const frames = (events: readonly OutputEvent[]) => events.map(frame).join("");
  return {
    open() {
      const response = responseBody(identity, request, { status: "in_progress", output: [] });
      return frames([
        { type: "response.created", response },
        { type: "response.in_progress", response },
      ]);
    },
    event: (event) => frames(output.add(event)),
    close(finished) {
      const last = frames(output.close());
      const response = completed(responding, finished, output.items, true);
      return last + frame({ type: `response.${response.status}`, response });
    },
    fail({ body: { error } }) {
      const { code, message, param } = error;
      const failure = { code: code ?? "server_error", message };
      const response = responseBody(identity, request, { status: "failed", output: output.items, error: failure });
      // The SDKs take only the second for an error.
      return frames([
        { type: "response.failed", response },
        { type: "error", code, message, param },
      ]);
    },
    get tooLong() {
      return output.tooLong;
    },
  };
}
