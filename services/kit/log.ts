// Structured logs: lines of JSON, secrets and prompts never in them.
import { type DestinationStream, type Logger, pino } from "pino";

export type Log = Logger;

/** Field names whose values are secrets or the content of prompts, wherever they stand. */
const secrets = ["authorization", "api_key", "apiKey", "secret", "token", "password", "env", "prompt", "messages"];

export interface LogOptions {
  /** Which part speaks, such as "gateway". */
  readonly name: string;
  /** pino's level; default "info". */
  readonly level?: string;
  /** Where the lines go; default standard output. */
  readonly destination?: DestinationStream;
}

export function createLog(options: LogOptions): Log {
  return pino(
    {
      name: options.name,
      level: options.level ?? "info",
      base: { pid: process.pid },
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: { paths: secrets.flatMap((name) => [name, `*.${name}`]), censor: "[redacted]" },
    },
    options.destination ?? pino.destination({ dest: 1, sync: true }),
  );
}

/** A log that says nothing, for tests. */
export const silentLog: Log = pino({ level: "silent" });
