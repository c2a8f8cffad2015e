// What both sides of the lean transport say of the Connect protocol: https://connectrpc.com/docs/protocol
import type { DescMethod } from "@bufbuild/protobuf";

/** The same on every call. */
export const protocolVersion = "1";

/** What setTimeout can take; a longer deadline is as good as none. */
export const timeoutMsMax = 2 ** 31 - 1;

/** The form of a method's messages: whole bodies for unary methods, envelopes for streams. */
export function contentType({ methodKind }: DescMethod): string {
  return methodKind === "unary" ? "application/proto" : "application/connect+proto";
}

export function methodPath(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

export function isIdentity(encoding: string | string[] | undefined): boolean {
  return encoding === undefined || encoding === "identity";
}
