// Messages of the contract as the text that is stored, and back.
import { type DescMessage, fromJsonString, type MessageShape, toJsonString } from "@bufbuild/protobuf";
import type { SQLOutputValue } from "node:sqlite";

/** A field that a newer version wrote is skipped, so that going back one version works. */
export function decode<Desc extends DescMessage>(schema: Desc, text: SQLOutputValue | undefined): MessageShape<Desc> {
  return fromJsonString(schema, String(text), { ignoreUnknownFields: true });
}

export function encode<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>): string {
  return toJsonString(schema, message);
}
