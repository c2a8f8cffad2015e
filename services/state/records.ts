// Messages of the contract as the text that is stored, and back.
import { type DescMessage, fromJson, fromJsonString, type MessageShape, toJsonString } from "@bufbuild/protobuf";

/** A field that a newer version wrote is skipped, so that going back one version works. */
export function decode<Desc extends DescMessage>(schema: Desc, text: unknown): MessageShape<Desc> {
  return fromJsonString(schema, String(text), { ignoreUnknownFields: true });
}

/** As `decode`, of JSON that was read already. */
export function decodeValue<Desc extends DescMessage>(schema: Desc, value: unknown): MessageShape<Desc> {
  return fromJson(schema, value as never, { ignoreUnknownFields: true });
}

export function encode<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>): string {
  return toJsonString(schema, message);
}
