// What the command line is given by whoever starts it: channels, environment, folder and time. Tests give their own.
import { setTimeout as delay } from "node:timers/promises";
import { DrawbridgeError } from "../kit/errors.ts";

/** Where results go. */
export interface Output {
  /** Resolves when the text is taken; rejects with OutputClosed when nobody reads any more. */
  write(text: string): Promise<void>;
  /** Whether a person looks at it. */
  readonly terminal: boolean;
}

export interface Shell {
  readonly output: Output;
  /** Where failures are told. */
  readonly errors: (text: string) => void;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** The current folder. */
  readonly directory: string;
  /** Wall time, in milliseconds since 1970. */
  readonly now: () => number;
  /** Waits, and keeps the process alive meanwhile. */
  readonly sleep: (ms: number) => Promise<void>;
}

/** Whoever read the output has gone, as `head` does when it has enough. Nothing is wrong. */
export class OutputClosed extends Error {
  override readonly name = "OutputClosed";
}

export function processShell(): Shell {
  return {
    output: streamOutput(process.stdout),
    errors: (text) => void process.stderr.write(text),
    environment: process.env,
    directory: process.cwd(),
    now: () => Date.now(),
    sleep: (ms) => delay(ms),
  };
}

function writeFailure(error: NodeJS.ErrnoException): Error {
  if (error.code === "EPIPE") return new OutputClosed();
  return new DrawbridgeError("INTERNAL", `The output cannot be written: ${error.message}.`, { cause: error });
}

export function streamOutput(stream: NodeJS.WriteStream): Output {
  let watched = false;
  return {
    terminal: stream.isTTY === true,
    write(text) {
      // The write's own callback tells its error; without a listener the stream would throw it a second time.
      if (!watched) stream.on("error", () => {});
      watched = true;
      return new Promise((resolve, reject) => {
        stream.write(text, (error) => (error ? reject(writeFailure(error)) : resolve()));
      });
    },
  };
}
