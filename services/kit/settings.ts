// Building blocks for configuration schemas: durations, sizes, addresses. A schema of a service is made of these, and its errors name the
// path of the wrong field and what was expected.
import { z } from "zod";
import { durationExamples, parseDuration } from "./duration.ts";
import { DrawbridgeError } from "./errors.ts";

/** A duration such as "30s", read as milliseconds. */
export function duration(): z.ZodType<number, string> {
  return z.string().transform((text, context) => {
    const ms = parseDuration(text);
    if (ms === undefined) {
      context.addIssue({ code: "custom", message: `expected a duration such as ${durationExamples}` });
      return z.NEVER;
    }
    return ms;
  });
}

const unitBytes: Record<string, number> = { B: 1, KiB: 1 << 10, MiB: 1 << 20, GiB: 1 << 30 };

/** A size such as "16MiB", read as bytes. */
export function byteSize(): z.ZodType<number, string> {
  return z.string().transform((text, context) => {
    const match = /^(\d+)\s*(B|KiB|MiB|GiB)$/.exec(text.trim());
    const factor = unitBytes[match?.[2] ?? ""];
    if (!match || !factor) {
      context.addIssue({ code: "custom", message: 'expected a size such as "64KiB" or "16MiB"' });
      return z.NEVER;
    }
    return Number(match[1]) * factor;
  });
}

/** Addresses such as "http://a:7072,http://b:7072", read as a list of at least one. */
export function urls(): z.ZodType<[string, ...string[]], string> {
  return z.string().transform((text, context) => {
    const [first, ...rest] = text.split(",").map((each) => each.trim());
    if (first && [first, ...rest].every((each) => URL.canParse(each))) return [first, ...rest] as [string, ...string[]];
    context.addIssue({
      code: "custom",
      message: 'expected an address such as "http://127.0.0.1:7072", or several with commas',
    });
    return z.NEVER;
  });
}

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

/** "host:port" or "[v6]:port". Port 0: any free one. */
export function listenAddress(): z.ZodType<ListenAddress, string> {
  return z.string().transform((text, context) => {
    const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(text.trim());
    const port = Number(match?.[3]);
    if (!match || port > 65_535) {
      context.addIssue({ code: "custom", message: 'expected an address such as "127.0.0.1:8080" or "[::1]:8080"' });
      return z.NEVER;
    }
    return { host: match[1] ?? match[2] ?? "", port };
  });
}

/** Parses with a schema; a wrong value is refused with every wrong field's path, what was expected, and where it stands. */
export function parseSettings<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  source: string,
): z.output<Schema> {
  const result = schema.safeParse(value);
  if (result.success) return deepFreeze(result.data);
  const lines = result.error.issues.map((issue) => `${pathText(issue.path)}: ${issueText(issue)}`);
  throw new DrawbridgeError("INVALID_ARGUMENT", `${source} is not valid:\n  ${lines.join("\n  ")}`);
}

/** accounts[0].slots, as a person would point at it. */
function pathText(path: readonly PropertyKey[]): string {
  const text = path.map((part) => (typeof part === "number" ? `[${part}]` : `.${String(part)}`)).join("");
  return text.replace(/^\./, "") || "(the whole file)";
}

function issueText(issue: z.core.$ZodIssue): string {
  if (issue.code === "unrecognized_keys") {
    return `unknown ${issue.keys.length === 1 ? "field" : "fields"} ${issue.keys.map((key) => `"${key}"`).join(", ")}`;
  }
  return issue.message.replace(/^Invalid input: /, "");
}

function deepFreeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value) && !ArrayBuffer.isView(value)) {
    Object.freeze(value);
    for (const each of Object.values(value)) deepFreeze(each);
  }
  return value;
}
