// What an endpoint is to the pipeline: its own way to read a request, and its own form of the answer. All else is shared.
import type { Finished, Prompt, PromptEvent } from "#gen/drawbridge/v1/prompt";
import type { GatewaySettings } from "../config.ts";
import type { ErrorAnswer } from "../openai/errors.ts";
import type { WholeAnswer } from "./collect.ts";

export interface Endpoint {
  /** Reads a body, once: what it asks of a model, and how the answer is told. Throws a ParameterError that names the field. */
  read(body: unknown, context: ReadContext): Asked | Promise<Asked>;
}

export interface ReadContext {
  readonly requestId: string;
  readonly userId: string;
  /** Seconds since 1970: when the answer is created. */
  readonly created: number;
  readonly config: GatewaySettings;
}

/** A checked request. */
export interface Asked {
  readonly prompt: Prompt;
  readonly streamed: boolean;
  /** The field that holds the input, for a refusal of too much of it. */
  readonly inputField: string;
  /** Names of fields that were given and have no effect. */
  readonly ignored: readonly string[];
  readonly answer: AnswerForm;
}

/** How one request's answer is told. */
export interface AnswerForm {
  /** The body of a whole answer, as JSON text. Called before the request is settled. */
  whole(answer: WholeAnswer): string;
  /** The frames of a streamed one. */
  stream(): StreamForm;
}

/** Frames of server-sent events. */
export interface StreamForm {
  /** What comes before the first content, with which it is sent. */
  open(): string;
  /** What an event of the answer is to the client; "": nothing. */
  event(event: PromptEvent): string;
  /** The end; the request is settled then. */
  close(finished: Finished): string;
  /** A failure after the first frame. */
  fail(error: ErrorAnswer): string;
  /** For a form whose end repeats the answer: whether there is more of it than is held. The answer is then ended as too long. */
  readonly tooLong?: boolean;
}
