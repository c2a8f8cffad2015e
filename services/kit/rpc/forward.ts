// A service implementation that passes every call on to another server, with its deadline and its cancellation.
import type { DescService } from "@bufbuild/protobuf";
import type { CallOptions, Client, HandlerContext, ServiceImpl } from "@connectrpc/connect";

type AnyCall = (request: unknown, options: CallOptions) => unknown;

/** Unary and server-streaming methods only. */
export function forwardTo<Service extends DescService>(
  service: Service,
  client: Client<Service>,
): ServiceImpl<Service> {
  const calls = client as Record<string, AnyCall>;
  const handlers: Record<string, unknown> = {};
  for (const method of service.methods) {
    handlers[method.localName] = (request: unknown, context: HandlerContext) => {
      const timeoutMs = context.timeoutMs();
      const options = { signal: context.signal, ...(timeoutMs === undefined ? {} : { timeoutMs }) };
      return calls[method.localName]?.(request, options);
    };
  }
  return handlers as ServiceImpl<Service>;
}
