// Errors in Anthropic's form: from the one table of refusals, told in its own statuses and types.
import type { ErrorAnswer } from "../openai/errors.ts";

const types: Readonly<Record<number, string>> = {
  400: "invalid_request_error",
  401: "authentication_error",
  402: "billing_error",
  403: "permission_error",
  404: "not_found_error",
  413: "request_too_large",
  429: "rate_limit_error",
  504: "timeout_error",
  529: "overloaded_error",
};

/** Statuses that Anthropic has for what OpenAI says otherwise. */
function statusOf({ status, body }: ErrorAnswer): number {
  if (body.error.code === "server_is_overloaded") return 529;
  if (body.error.code === "insufficient_quota") return 402;
  return status;
}

export interface AnthropicErrorAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: ReturnType<typeof errorBodyOf>;
}

export function anthropicAnswer(answer: ErrorAnswer, requestId: string): AnthropicErrorAnswer {
  return { status: statusOf(answer), headers: answer.headers, body: errorBodyOf(answer, requestId) };
}

export function errorBodyOf(answer: ErrorAnswer, requestId: string) {
  const status = statusOf(answer);
  const type = types[status] ?? (status >= 500 ? "api_error" : "invalid_request_error");
  return { type: "error", error: { type, message: answer.body.error.message }, request_id: requestId };
}
