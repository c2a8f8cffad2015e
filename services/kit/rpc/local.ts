// A typed client that calls a service object in the same process: no transport, no serialisation, the same interface.
import { create, type DescMethod, type DescService, type MessageInitShape } from "@bufbuild/protobuf";
import { type CallOptions, type Client, createHandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { asDrawbridgeError } from "../errors.ts";
import { callOver } from "./call-over.ts";

type AnyHandler = (request: unknown, context: unknown) => unknown;

/**
 * The Connect client of a service whose implementation runs in this process. Deadlines (`timeoutMs`) and signals reach the handler as
 * over the network; errors arrive as DrawbridgeError instead of ConnectError. Unary and server-streaming methods only.
 */
export function localClient<Service extends DescService>(
  service: Service,
  implementation: ServiceImpl<Service>,
): Client<Service> {
  const client: Record<string, unknown> = {};
  for (const method of service.methods) {
    const handler = (implementation as Record<string, AnyHandler>)[method.localName]?.bind(implementation);
    if (!handler) throw new TypeError(`${service.typeName}.${method.name} has no implementation`);
    if (method.methodKind === "unary") client[method.localName] = unary(method, handler);
    else if (method.methodKind === "server_streaming") client[method.localName] = serverStreaming(method, handler);
    else throw new TypeError(`${service.typeName}.${method.name}: client streaming has no local client`);
  }
  return client as Client<Service>;
}

function contextFor(method: DescMethod, options: CallOptions | undefined) {
  return createHandlerContext({
    service: method.parent,
    method,
    protocolName: "local",
    requestMethod: "POST",
    url: `local:///${method.parent.typeName}/${method.name}`,
    requestHeader: new Headers(options?.headers),
    ...(options?.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }),
    ...(options?.signal ? { requestSignal: options.signal } : {}),
    ...(options?.contextValues ? { contextValues: options.contextValues } : {}),
  });
}

function unary(method: DescMethod, handler: AnyHandler) {
  return async (request: MessageInitShape<typeof method.input>, options?: CallOptions) => {
    const context = contextFor(method, options);
    try {
      context.signal.throwIfAborted();
      return create(method.output, (await handler(create(method.input, request), context)) as never);
    } catch (error) {
      throw asDrawbridgeError(context.signal.aborted ? (context.signal.reason ?? error) : error);
    } finally {
      context.abort(callOver);
    }
  };
}

function serverStreaming(method: DescMethod, handler: AnyHandler) {
  return async function* stream(request: MessageInitShape<typeof method.input>, options?: CallOptions) {
    const context = contextFor(method, options);
    try {
      context.signal.throwIfAborted();
      const responses = handler(create(method.input, request), context) as AsyncIterable<unknown>;
      for await (const response of responses) yield create(method.output, response as never);
    } catch (error) {
      throw asDrawbridgeError(error);
    } finally {
      context.abort(callOver);
    }
  };
}
