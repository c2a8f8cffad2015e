// What every call to a server passes: a request id, authorization, and one translation of errors.
import { create, type DescMethod } from "@bufbuild/protobuf";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { ErrorInfoSchema } from "#gen/google/rpc/error_details";
import { asDrawbridgeError, errorDomain, fromConnectError, toConnectError } from "../errors.ts";
import type { Log } from "../log.ts";
import { newId } from "../random.ts";

/** Who calls what. */
export interface IncomingCall {
  /** Full name, such as drawbridge.v1.FleetService. */
  readonly service: string;
  readonly method: string;
  readonly header: Headers;
}

/** Throws a DrawbridgeError (UNAUTHENTICATED, PERMISSION_DENIED) if the call may not be made. */
export type Authorize = (call: IncomingCall) => void | Promise<void>;

export const requestIdHeader = "x-request-id";

/** Takes the caller's request id or makes one, and sends it back. */
export function requestIds(): Interceptor {
  return (next) => async (request) => {
    const id = request.header.get(requestIdHeader) ?? newId("rpc");
    request.header.set(requestIdHeader, id);
    const response = await next(request);
    response.header.set(requestIdHeader, id);
    return response;
  };
}

export function authorization(authorize: Authorize): Interceptor {
  return (next) => async (request) => {
    await authorize({ service: request.service.typeName, method: request.method.name, header: request.header });
    return await next(request);
  };
}

export interface FailedCall {
  /** The call's own: what it was aborted by is the answer. */
  readonly signal: AbortSignal;
  readonly method: DescMethod;
  readonly requestId: string | null;
  readonly log: Log;
}

/** Domain errors become Connect errors with details; what is not a domain error is a bug: logged in full, sent as "Internal error." */
export function translateError(error: unknown, { signal, method, requestId, log }: FailedCall): ConnectError {
  if (signal.aborted && signal.reason instanceof ConnectError) return signal.reason;
  if (error instanceof ConnectError) return withErrorInfo(error);
  const domainError = asDrawbridgeError(error);
  if (domainError.reason === "INTERNAL") {
    log.error({ err: domainError.cause ?? domainError, method: method.name, request_id: requestId }, "call failed");
  }
  return toConnectError(domainError);
}

export function errorTranslation(log: Log): Interceptor {
  return (next) => async (request) => {
    const { signal, method, header } = request;
    const translate = (error: unknown) =>
      translateError(error, { signal, method, requestId: header.get(requestIdHeader), log });
    try {
      const response = await next(request);
      if (!response.stream) return response;
      return { ...response, message: translated(response.message, translate) };
    } catch (error) {
      throw translate(error);
    }
  };
}

async function* translated<T>(messages: AsyncIterable<T>, translate: (error: unknown) => ConnectError) {
  try {
    yield* messages;
  } catch (error) {
    throw translate(error);
  }
}

/** Errors of the protocol and of validation get a reason too, so that clients have one thing to look at. */
function withErrorInfo(error: ConnectError): ConnectError {
  if (error.code === Code.Canceled || error.findDetails(ErrorInfoSchema).length > 0) return error;
  // The transport says so of a message that is too large.
  const fallback = error.code === Code.ResourceExhausted ? "INVALID_ARGUMENT" : "INTERNAL";
  const { reason } = fromConnectError(error, fallback);
  error.details.push({ desc: ErrorInfoSchema, value: create(ErrorInfoSchema, { reason, domain: errorDomain }) });
  return error;
}
