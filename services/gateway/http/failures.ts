// What clients are told where a request came to nothing: no such URL, a body that was not taken, or any other failure.
import type { FastifyError, FastifyRequest } from "fastify";
import { asDrawbridgeError, DrawbridgeError } from "../../kit/errors.ts";
import type { GatewaySettings } from "../config.ts";
import { type ErrorAnswer, errorAnswer, errorBody } from "../openai/errors.ts";
import { ParameterError } from "../openai/parse.ts";

/** What is told of a path that no route is for, or not with this method. */
export function unknownUrl({ method, url }: FastifyRequest, methodsOf: (path: string) => string[]): ErrorAnswer {
  // What stands behind the question mark may be a secret.
  const [path = ""] = url.split("?");
  const allowed = methodsOf(path);
  if (allowed.length === 0) {
    const meant = meantBy(path).find((each) => methodsOf(each).includes(method));
    const hint =
      meant === undefined ? "Please check the URL for typos." : `Did you mean ${meant}? Check your base URL.`;
    const message = `Unknown request URL: ${method} ${path}. ${hint}`;
    return { status: 404, headers: {}, body: errorBody(message, "invalid_request_error", null, "unknown_url") };
  }
  const message = `Invalid method for URL: ${method} ${path}. Use ${allowed.join(" or ")}.`;
  const body = errorBody(message, "invalid_request_error", null, "method_not_supported");
  return { status: 405, headers: { allow: allowed.join(", ") }, body };
}

/** What stands in a base URL once too often or not at all is the usual mistake. */
function meantBy(path: string): string[] {
  const plain = `/${path.split("/").filter(Boolean).join("/")}`;
  return [plain, `/v1${plain}`, plain.replace(/^\/v1(?=\/v1\/)/, "")];
}

/** What is told of a request that failed while its client has heard nothing. */
export function answerOf(error: FastifyError, request: FastifyRequest, config: GatewaySettings): ErrorAnswer {
  const refused = error instanceof DrawbridgeError ? undefined : bodyError(error, request);
  if (refused) return refused;
  const { param, code } = error instanceof ParameterError ? error : { param: undefined, code: undefined };
  return errorAnswer(asDrawbridgeError(error), { param, code, retryAfterMs: config.retry_after });
}

/** What fastify says of a body that it did not take. */
function bodyError(
  { code, statusCode, message }: FastifyError,
  { routeOptions }: FastifyRequest,
): ErrorAnswer | undefined {
  const answer = (status: number, text: string, name: string | null): ErrorAnswer => ({
    status,
    headers: {},
    body: errorBody(text, "invalid_request_error", null, name),
  });
  if (code === "FST_ERR_CTP_BODY_TOO_LARGE") {
    return answer(413, `The request body is larger than ${routeOptions.bodyLimit} bytes.`, "request_too_large");
  }
  if (code === "FST_ERR_CTP_INVALID_MEDIA_TYPE") {
    return answer(415, "Send the body as application/json.", "unsupported_media_type");
  }
  if (statusCode === undefined || statusCode >= 500) return undefined;
  if (code === "FST_ERR_CTP_EMPTY_JSON_BODY") return answer(400, "The request has no body.", null);
  return answer(statusCode, `We could not parse the JSON body of your request. (${message})`, null);
}
