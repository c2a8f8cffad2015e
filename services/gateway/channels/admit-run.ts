// A request for channels and the ledger: let in once, or answered again from what a repeated Idempotency-Key had.
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Clock } from "../../kit/clock.ts";
import type { Admission } from "../access/admit.ts";
import type { Caller } from "../access/authenticate.ts";
import { AdmissionError } from "../access/refusals.ts";
import type { Exchange } from "../http/exchange.ts";
import { commonHeaders } from "../http/headers.ts";
import { type AnswerCache, idempotencyOf } from "../openai/idempotency.ts";
import type { ChannelRequest, TokenBounds } from "./body.ts";
import type { SharedAdmissions } from "./shared-admission.ts";

export interface ToAdmit {
  readonly options: { readonly answers: AnswerCache };
  readonly proxied: { readonly request: FastifyRequest };
  readonly asked: ChannelRequest;
  readonly bounds: TokenBounds;
  readonly shared: SharedAdmissions;
  readonly caller: Caller;
}

/** An answer that was billed before. */
export class Replay {
  readonly #body: string;

  constructor(body: string) {
    this.#body = body;
  }

  send(reply: FastifyReply, exchange: Exchange, clock: Clock): FastifyReply {
    return reply
      .headers({ ...commonHeaders(exchange, clock), "idempotent-replayed": "true" })
      .type("application/json; charset=utf-8")
      .send(this.#body);
  }
}

/** Throws an AdmissionError. */
export async function admitRun(toAdmit: ToAdmit): Promise<Admission | Replay> {
  const { options, proxied, asked, bounds, shared, caller } = toAdmit;
  const { exchange } = proxied.request;
  const idempotency = idempotencyOf(proxied.request);
  try {
    const admission = await shared.admit({
      requestId: exchange.requestId,
      caller,
      model: asked.model,
      inputTokens: bounds.input,
      outputTokensMax: bounds.output,
      idempotency,
    });
    exchange.limits = admission.limits;
    return admission;
  } catch (error) {
    if (!(error instanceof AdmissionError)) throw error;
    exchange.limits = error.limits;
    const { refusal } = error;
    const billed = refusal.reason === "IDEMPOTENCY_CONFLICT" && refusal.conflict === "billed";
    const replay = billed && idempotency ? options.answers.get(caller.userId, idempotency.key) : undefined;
    if (replay === undefined) throw error;
    return new Replay(replay);
  }
}

/** Keeps a whole answer for a repeated Idempotency-Key, where there is one. */
export function keeperOf({ options, proxied, caller }: ToAdmit): (body: string) => void {
  const idempotency = idempotencyOf(proxied.request);
  return (body) => {
    if (idempotency) options.answers.set(caller.userId, idempotency.key, body);
  };
}
