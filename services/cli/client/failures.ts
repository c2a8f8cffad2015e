// A failed call → what to tell the person who made it, with what to do.
import { Code, type ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema } from "#gen/google/rpc/error_details";
import { DrawbridgeError, errorDomain, fromConnectError, type Reason } from "../../kit/errors.ts";
import type { Target } from "./target.ts";

export function clientFailure(error: ConnectError, target: Target, timeoutMs: number): DrawbridgeError {
  const answered = error.findDetails(ErrorInfoSchema).some((detail) => detail.domain === errorDomain);
  return answered ? refusal(error, target) : noAnswer(error, target, timeoutMs);
}

/** Drawbridge itself said no: its words, and for some reasons what they do not know. */
function refusal(error: ConnectError, { url, keySource }: Target): DrawbridgeError {
  const found = fromConnectError(error);
  const retell = (message: string) => new DrawbridgeError(found.reason, message, { cause: error });
  switch (found.reason) {
    case "UNAUTHENTICATED":
    case "PERMISSION_DENIED":
      return retell(`${url} refuses the admin key of ${keySource}: ${found.message}`);
    case "INTERNAL":
      return retell(`${url} failed: ${found.message} Its log says why.`);
    default:
      return found;
  }
}

/** Codes of Node.js for a connection that was not made. */
const refused = new Set(["ECONNREFUSED", "ECONNRESET", "EPIPE", "EHOSTUNREACH", "ENETUNREACH", "ETIMEDOUT"]);
const unknownHost = new Set(["ENOTFOUND", "EAI_AGAIN"]);

function noAnswer(error: ConnectError, { url }: Target, timeoutMs: number): DrawbridgeError {
  const tell = (reason: Reason, message: string) => new DrawbridgeError(reason, message, { cause: error });
  if (error.code === Code.DeadlineExceeded) {
    return tell("DEADLINE_EXCEEDED", `${url} gave no answer within ${timeoutMs / 1_000} s. --timeout gives it more.`);
  }
  const code = systemCode(error);
  if (code !== undefined && unknownHost.has(code)) {
    return tell("STATE_UNAVAILABLE", `The host of ${url} is not known. Set DRAWBRIDGE_URL to another address.`);
  }
  if (code !== undefined && refused.has(code)) {
    return tell(
      "STATE_UNAVAILABLE",
      `Nothing answers at ${url} (${code}). Start it with \`drawbridge up\`, or set DRAWBRIDGE_URL.`,
    );
  }
  const what = code ?? (error.rawMessage || Code[error.code]);
  const hint = url.endsWith("/v1") ? ": there is no /v1 in it" : "";
  return tell(
    "STATE_UNAVAILABLE",
    `What answers at ${url} is not Drawbridge, or not of this version (${what}). Check DRAWBRIDGE_URL${hint}.`,
  );
}

/** The code of the error of Node.js underneath, such as ECONNREFUSED. */
function systemCode(error: Error): string | undefined {
  let code: string | undefined;
  for (let each: unknown = error; each instanceof Error && code === undefined; each = each.cause) {
    if ("code" in each && typeof each.code === "string") code = each.code;
  }
  return code;
}
