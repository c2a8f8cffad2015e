// What goes wrong with a Valkey server, as our errors.
import { DrawbridgeError } from "../../kit/errors.ts";

/** What a refusal of the server begins with when the same command may succeed later: it starts, fails over, is out of memory or disk. */
const transient = [
  "BUSY",
  "CLUSTERDOWN",
  "LOADING",
  "MASTERDOWN",
  "MISCONF",
  "NOREPLICAS",
  "OOM",
  "READONLY",
  "TRYAGAIN",
  "UNBLOCKED",
];
/** The server does not know us, or does not let us. */
const forbidden = ["NOAUTH", "NOPERM", "WRONGPASS"];

const retryAfterMs = 1_000;

/** A refusal by the server, or a failure to reach it, as what a caller can decide by. The cause is kept for the log. */
export function storeError(error: unknown): DrawbridgeError {
  if (error instanceof DrawbridgeError) return error;
  const code = replyCode(error);
  if (code === undefined || transient.includes(code)) {
    return new DrawbridgeError("STATE_UNAVAILABLE", "The store does not answer. Try again.", {
      cause: error,
      retryAfterMs,
    });
  }
  if (forbidden.includes(code)) {
    const message = 'The store refuses the user or password of its address ("state"), or what that user may do.';
    return new DrawbridgeError("STATE_UNAVAILABLE", message, { cause: error, retryAfterMs });
  }
  return new DrawbridgeError("INTERNAL", "The store refused an operation.", { cause: error });
}

/** Whether the server does not know a script by its digest. */
export function isUnknownScript(error: unknown): boolean {
  return replyCode(error) === "NOSCRIPT";
}

/** Whether a node of a Cluster names another one. */
export function isRedirection(error: unknown): boolean {
  return ["ASK", "MOVED", "TRYAGAIN"].includes(replyCode(error) ?? "");
}

/** The first word of an error that the server itself sent; undefined: the error came from the way there. */
export function replyCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || error.name !== "ReplyError") return undefined;
  return /^[A-Z]+/.exec(error.message)?.[0] ?? "";
}
