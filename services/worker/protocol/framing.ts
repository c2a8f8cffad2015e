// JSON-RPC messages, one a line, over an agent's pipes. Agents write what they like: lines of noise are skipped, and a line over the limit
// costs that line and not the connection.
import type { Readable, Writable } from "node:stream";
import { oneLine } from "../../kit/one-line.ts";

const newline = 0x0a;

export interface LineSplitterOptions {
  /** The longest line, in bytes without its end. */
  readonly bytesMax: number;
  readonly onLine: (line: string) => void;
  /** A line over the limit began; the rest of it is thrown away. */
  readonly onOversize: () => void;
}

/**
 * Bytes in, whole lines out. Decoding happens for a whole line, so characters may be split between two writes. Holds at most one
 * unfinished line.
 */
export function createLineSplitter({ bytesMax, onLine, onOversize }: LineSplitterOptions): (chunk: Buffer) => void {
  let parts: Buffer[] = [];
  let held = 0;
  let discarding = false;
  const hold = (part: Buffer) => {
    if (discarding) return;
    held += part.length;
    if (held <= bytesMax) {
      parts.push(part);
      return;
    }
    parts = [];
    discarding = true;
    onOversize();
  };
  const finish = () => {
    const line = discarding ? undefined : parts.length === 1 ? parts[0] : Buffer.concat(parts);
    parts = [];
    held = 0;
    discarding = false;
    if (line && line.length > 0) onLine(line.toString("utf8"));
  };
  return (chunk) => {
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(newline, start);
      if (end === -1) break;
      hold(chunk.subarray(start, end));
      finish();
      start = end + 1;
    }
    if (start < chunk.length) hold(chunk.subarray(start));
  };
}

/** A JSON object as it came from the agent: untrusted. */
export type Frame = Readonly<Record<string, unknown>>;

export interface FramingOptions {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly lineBytesMax: number;
  readonly onFrame: (frame: Frame) => void;
  readonly onOversize: () => void;
}

export interface Framing {
  /**
   * Resolves when the pipe has taken the message. Callers send one at a time. A pipe that broke takes nothing more: the call stays open
   * until the process's end, which says more than the pipe, closes the connection.
   */
  send(message: unknown): Promise<void>;
  /** Leaves what the agent writes in its pipe, so that a slow reader slows the agent instead of filling memory. */
  pause(): void;
  resume(): void;
  /** Lines that were no JSON object. */
  readonly skippedLines: number;
}

export function createFraming(options: FramingOptions): Framing {
  const { stdin, stdout } = options;
  let skippedLines = 0;
  const split = createLineSplitter({
    bytesMax: options.lineBytesMax,
    onOversize: options.onOversize,
    onLine(line) {
      const frame = parseObject(line);
      if (frame) options.onFrame(frame);
      else skippedLines += 1;
    },
  });
  // A broken pipe is the beginning of the process's end, which is waited for elsewhere.
  stdout.on("data", split).on("error", () => {});
  stdin.on("error", () => {});
  return {
    send: (message) =>
      new Promise((resolve) => {
        stdin.write(`${oneLine(JSON.stringify(message))}\n`, (error) => {
          if (!error) resolve();
        });
      }),
    pause: () => void stdout.pause(),
    resume: () => void stdout.resume(),
    get skippedLines() {
      return skippedLines;
    },
  };
}

function parseObject(line: string): Frame | undefined {
  if (!line.trimStart().startsWith("{")) return undefined;
  try {
    return JSON.parse(line) as Frame;
  } catch {
    return undefined;
  }
}
