// Why the signal of a call that ended is aborted. One for all of them: a reason made for each call is a stack trace made for each call.
import { Code, ConnectError } from "@connectrpc/connect";

export const callOver = new ConnectError("The call is over.", Code.Canceled);
