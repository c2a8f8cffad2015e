// The last part of a text that goes on for ever.

export interface TextRing {
  push(chunk: Buffer): void;
  /** What is kept, from a mark on. */
  text(since?: number): string;
  /** How many bytes went by: a mark for `text`. */
  readonly position: number;
}

export function createTextRing(bytesMax: number): TextRing {
  let chunks: Buffer[] = [];
  let kept = 0;
  let position = 0;
  return {
    push(chunk) {
      const part = chunk.length > bytesMax ? chunk.subarray(chunk.length - bytesMax) : chunk;
      chunks.push(part);
      kept += part.length;
      position += chunk.length;
      while (kept > bytesMax) kept -= chunks.shift()?.length ?? 0;
      // Many small writes would keep many small objects.
      if (chunks.length > 256) chunks = [Buffer.concat(chunks)];
    },
    text(since = 0) {
      const all = Buffer.concat(chunks);
      const start = Math.max(0, since - (position - all.length));
      return all.subarray(start).toString("utf8");
    },
    get position() {
      return position;
    },
  };
}
