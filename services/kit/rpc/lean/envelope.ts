// The frames of a Connect stream: one byte of flags, four of length (big endian), then that many bytes of message.
import { Code, ConnectError } from "@connectrpc/connect";

const prefixBytes = 5;

/** The payload is compressed. */
export const compressedFlag = 0b0000_0001;
/** The payload is the JSON that ends a stream. */
export const endStreamFlag = 0b0000_0010;

export interface Envelope {
  readonly flags: number;
  /** A view of the received bytes: decode it before they are let go. */
  readonly payload: Uint8Array;
}

export function writeEnvelope(flags: number, payload: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(prefixBytes + payload.length);
  bytes[0] = flags;
  bytes.writeUInt32BE(payload.length, 1);
  bytes.set(payload, prefixBytes);
  return bytes;
}

export interface EnvelopeReader {
  /** Takes bytes as they arrive, cut anywhere; the envelopes that are complete with them. Throws if one says that it is over the limit. */
  push(chunk: Buffer): readonly Envelope[];
  /** Bytes of an envelope that is not complete. */
  readonly pendingBytes: number;
}

const none: readonly Envelope[] = [];

/** What it holds is bounded by one envelope of `payloadBytesMax` and one chunk. */
export function createEnvelopeReader(payloadBytesMax: number): EnvelopeReader {
  let parts: Buffer[] = [];
  let size = 0;
  // Until so many bytes are there, nothing can be read: chunks are kept apart and joined once.
  let needed = prefixBytes;

  const read = (bytes: Buffer): Envelope[] => {
    const envelopes: Envelope[] = [];
    let offset = 0;
    for (;;) {
      needed = prefixBytes;
      if (bytes.length - offset < needed) break;
      const length = bytes.readUInt32BE(offset + 1);
      if (length > payloadBytesMax) throw tooLarge(length, payloadBytesMax);
      needed += length;
      if (bytes.length - offset < needed) break;
      envelopes.push({ flags: bytes[offset] ?? 0, payload: bytes.subarray(offset + prefixBytes, offset + needed) });
      offset += needed;
    }
    parts = offset < bytes.length ? [bytes.subarray(offset)] : [];
    size = bytes.length - offset;
    return envelopes;
  };

  return {
    get pendingBytes() {
      return size;
    },
    push(chunk) {
      parts.push(chunk);
      size += chunk.length;
      if (size < needed) return none;
      return read(parts.length === 1 ? chunk : Buffer.concat(parts, size));
    },
  };
}

export function tooLarge(bytes: number, bytesMax: number): ConnectError {
  return new ConnectError(
    `A message of ${bytes} bytes is over the limit of ${bytesMax} bytes.`,
    Code.ResourceExhausted,
  );
}
