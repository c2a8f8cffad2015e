// A request's body → a checked request, or a refusal that names the field.
import type { z } from "zod";
import { DrawbridgeError } from "../../kit/errors.ts";
import { type ChatRequest, chatRequest, isUnsupported } from "./schema.ts";

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

/** Throws a ParameterError. */
export function parseChatRequest(body: unknown): ChatRequest {
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    throw new ParameterError("The body must be a JSON object.");
  }
  const result = chatRequest.safeParse(body);
  if (!result.success) throw parameterError(result.error.issues, body);
  const request = result.data;
  if (request.stream_options && !request.stream) {
    throw new ParameterError("`stream_options` is only allowed when `stream` is true.", "stream_options");
  }
  return request;
}

function parameterError(issues: readonly z.core.$ZodIssue[], body: object): ParameterError {
  const issue = deepest(issues);
  const param = pathText(issue.path);
  if (issue.code === "unrecognized_keys") {
    const unknown = [param, issue.keys[0]].filter(Boolean).join(".");
    return new ParameterError(`Unknown parameter: '${unknown}'.`, unknown, "unknown_parameter");
  }
  const [field] = issue.path;
  if (!(String(field) in body)) {
    return new ParameterError(`Missing required parameter: '${param}'.`, param, "missing_required_parameter");
  }
  if (isUnsupported(String(field))) return new ParameterError(issue.message, param, "unsupported_parameter");
  return new ParameterError(`Invalid value for '${param}': ${readable(issue.message)}`, param, "invalid_value");
}

/** Inside a union the alternative that got furthest says most. */
function deepest(issues: readonly z.core.$ZodIssue[]): z.core.$ZodIssue {
  const [first] = issues;
  if (!first) throw new TypeError("a failed parse has an issue");
  if (first.code !== "invalid_union" || first.errors.length === 0) return first;
  const candidates = first.errors.map((each) => deepest(each));
  const furthest = candidates.reduce((best, each) => (each.path.length > best.path.length ? each : best));
  if (furthest.path.length === 0) return { ...first, message: "expected one of the allowed forms." };
  return { ...furthest, path: [...first.path, ...furthest.path] };
}

/** messages[0].content, as OpenAI writes it. */
function pathText(path: readonly PropertyKey[]): string {
  return path
    .map((part) => (typeof part === "number" ? `[${part}]` : `.${String(part)}`))
    .join("")
    .replace(/^\./, "");
}

function readable(message: string): string {
  const text = message.replace(/^Invalid input: /, "");
  return text.endsWith(".") ? text : `${text}.`;
}
