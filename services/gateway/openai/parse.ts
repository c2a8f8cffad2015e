// A request's body → a checked request, or a refusal that names the field.
import type { z } from "zod";
import { DrawbridgeError } from "../../kit/errors.ts";
import { type ChatRequest, chatRequest, unsupportedByChat } from "./schema.ts";

/** A request that is wrong in one field. */
export class ParameterError extends DrawbridgeError {
  readonly param: string | undefined;
  readonly code: string | undefined;

  constructor(message: string, param?: string, code?: string) {
    super("INVALID_ARGUMENT", message);
    this.param = param;
    this.code = code;
  }
}

/** What a client is told whose request has a field that would change what the answer is, and cannot be honoured. */
export type Unsupported = Readonly<Record<string, string>>;

/** Checks a body against a schema, once. Throws a ParameterError. */
export function parseBody<Schema extends z.ZodType>(
  schema: Schema,
  body: unknown,
  unsupported: Unsupported,
): z.output<Schema> {
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw new ParameterError("The body must be a JSON object.");
  }
  const result = schema.safeParse(body);
  if (!result.success) throw parameterError(result.error.issues, body, unsupported);
  return result.data;
}

export function checkStreaming({
  stream,
  stream_options: options,
}: Pick<ChatRequest, "stream" | "stream_options">): void {
  if (!options || stream) return;
  throw new ParameterError("`stream_options` is only allowed when `stream` is true.", "stream_options");
}

/** Throws a ParameterError. */
export function parseChatRequest(body: unknown): ChatRequest {
  const request = parseBody(chatRequest, body, unsupportedByChat);
  checkStreaming(request);
  return request;
}

function parameterError(issues: readonly z.core.$ZodIssue[], body: object, unsupported: Unsupported): ParameterError {
  const issue = deepest(issues);
  const field = String(issue.path[0] ?? "");
  const why = Object.hasOwn(unsupported, field) ? unsupported[field] : undefined;
  if (why !== undefined) return new ParameterError(why, field, "unsupported_parameter");
  const param = pathText(issue.path);
  if (issue.code === "unrecognized_keys") {
    const unknown = [param, issue.keys[0]].filter(Boolean).join(".");
    return new ParameterError(`Unknown parameter: '${unknown}'.`, unknown, "unknown_parameter");
  }
  if (valueAt(body, issue.path) === undefined) {
    return new ParameterError(`Missing required parameter: '${param}'.`, param, "missing_required_parameter");
  }
  return new ParameterError(`Invalid value for '${param}': ${readable(issue.message)}`, param, "invalid_value");
}

/** Inside a union the alternative that got furthest says most. */
function deepest(issues: readonly z.core.$ZodIssue[]): z.core.$ZodIssue {
  const [first] = issues;
  if (!first) throw new TypeError("a failed parse has an issue");
  if (first.code !== "invalid_union" || first.errors.length === 0) return first;
  const candidates = first.errors.map((each) => deepest(each));
  const furthest = candidates.reduce((best, each) => (rank(each) > rank(best) ? each : best));
  return { ...furthest, path: [...first.path, ...furthest.path] };
}

/** The deeper the better; at the same depth, what is wrong with a value of the right type says more than that another type was expected. */
function rank(issue: z.core.$ZodIssue): number {
  return issue.path.length * 2 + (issue.code === "invalid_type" ? 0 : 1);
}

/** What the body has there; undefined: nothing. */
function valueAt(body: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce(
    (value: unknown, part) => (typeof value === "object" && value !== null ? Reflect.get(value, part) : undefined),
    body,
  );
}

/** messages[0].content, as OpenAI writes it. */
function pathText(path: readonly PropertyKey[]): string {
  return path
    .map((part) => (typeof part === "number" ? `[${part}]` : `.${String(part)}`))
    .join("")
    .replace(/^\./, "");
}

function readable(message: string): string {
  const text = message.replace(/^Invalid (?:input|discriminator value)[:.] /, "");
  return text.endsWith(".") ? text : `${text}.`;
}
