// What the parts of the Docker Engine for tests share: refusals, bodies and filters.
import type { IncomingMessage, ServerResponse } from "node:http";

export type LabelFilter = (labels: Readonly<Record<string, string>>) => boolean;

/** An answer of the Engine's that says no. */
export class Refusal extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export function refuseUnknown(what: string, body: object, fields: readonly string[]): void {
  for (const field of Object.keys(body)) {
    if (!fields.includes(field)) throw new Refusal(400, `unknown field ${field} of ${what}`);
  }
}

/** The Engine's filters: a JSON object of lists. */
export function labelFilter(text: string | null, known: readonly string[]): LabelFilter {
  const filters = JSON.parse(text ?? "{}") as Record<string, readonly string[]>;
  for (const [name, values] of Object.entries(filters)) {
    if (!known.includes(name)) throw new Refusal(400, `invalid filter '${name}'`);
    if (!Array.isArray(values)) throw new Refusal(400, `filter '${name}' is no list`);
  }
  if (filters["type"] && !filters["type"].includes("container")) return () => false;
  if (filters["event"] && !filters["event"].includes("die")) return () => false;
  const labels = (filters["label"] ?? []).map((each) => each.split("=", 2));
  return (of) => labels.every(([name = "", value]) => of[name] === value);
}

export async function bodyOf(request: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return JSON.parse(Buffer.concat(parts).toString()) as unknown;
}

export function send(response: ServerResponse, status: number, body?: unknown): void {
  if (response.headersSent) return void response.destroy();
  response.writeHead(status, body === undefined ? {} : { "content-type": "application/json" });
  response.end(body === undefined ? undefined : JSON.stringify(body));
}
