// A model provider on this machine that speaks OpenAI's Responses API, streamed: what a third-party agent talks to in tests. A prompt's text
// chooses the answer: `say(WORDS)` is answered with these words, `count(N, MS)` with N numbered words, one each MS milliseconds, anything
// else with a fixed sentence.
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** The tokens that every answer reports. */
export const reportedUsage = { input_tokens: 123, cached_tokens: 7, output_tokens: 45, reasoning_tokens: 3 } as const;

export const defaultAnswer = "This is the local model.";

export interface ModelServer extends AsyncDisposable {
  /** The base URL for an OpenAI-compatible client, ending in /v1. */
  readonly url: string;
  /** Bodies of the requests so far, oldest first. */
  readonly requests: readonly unknown[];
  /** Answers whose client went away before their end. */
  readonly abandoned: () => number;
}

interface Step {
  readonly text: string;
  readonly delayMs: number;
}

export async function startModelServer(): Promise<ModelServer> {
  const requests: unknown[] = [];
  let abandoned = 0;

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.method !== "POST" || !request.url?.endsWith("/responses")) {
      response.writeHead(404, { "content-type": "application/json" });
      response.end(
        JSON.stringify({ error: { message: "There is only POST /v1/responses.", type: "invalid_request_error" } }),
      );
      return;
    }
    const body: unknown = JSON.parse(await readAll(request));
    requests.push(body);
    await streamAnswer(response, stepsFor(lastUserText(body)));
    if (!response.writableFinished && response.destroyed) abandoned += 1;
  }

  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => response.destroy(error as Error));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/v1`,
    requests,
    abandoned: () => abandoned,
    async [Symbol.asyncDispose]() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

async function readAll(request: IncomingMessage): Promise<string> {
  let text = "";
  request.setEncoding("utf8");
  for await (const part of request) text += String(part);
  return text;
}

function stepsFor(prompt: string): Step[] {
  const count = /count\((\d+), *(\d+)\)/.exec(prompt);
  if (count) {
    return Array.from({ length: Number(count[1]) }, (_, index) => ({ text: `w${index} `, delayMs: Number(count[2]) }));
  }
  const words = /say\(([^)]*)\)/.exec(prompt)?.[1] ?? defaultAnswer;
  return words.split(/(?<= )/).map((text) => ({ text, delayMs: 0 }));
}

/** The text of the last message that is the user's. */
function lastUserText(body: unknown): string {
  const { input } = body as { readonly input?: readonly { readonly role?: string; readonly content?: unknown }[] };
  const last = (input ?? []).findLast((item) => item.role === "user");
  return JSON.stringify(last?.content ?? "");
}

async function streamAnswer(response: ServerResponse, steps: readonly Step[]): Promise<void> {
  const left = new AbortController();
  response.once("close", () => left.abort());
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
  let sequence = 0;
  const send = (type: string, fields: object) => {
    const data = { type, sequence_number: sequence++, ...fields };
    response.write(`event: ${type}\ndata: ${JSON.stringify(data)}\n\n`);
  };
  const id = "resp_local";
  const itemId = "msg_local";
  const place = { item_id: itemId, output_index: 0, content_index: 0 };
  send("response.created", { response: { id, object: "response", status: "in_progress", output: [] } });
  send("response.output_item.added", { output_index: 0, item: message(itemId, "in_progress", undefined) });
  let text = "";
  try {
    for (const step of steps) {
      if (step.delayMs > 0) await sleep(step.delayMs, undefined, { signal: left.signal });
      text += step.text;
      send("response.output_text.delta", { ...place, delta: step.text });
    }
  } catch (error) {
    if (left.signal.aborted) return;
    throw error;
  }
  const item = message(itemId, "completed", text);
  send("response.output_text.done", { ...place, text });
  send("response.output_item.done", { output_index: 0, item });
  send("response.completed", {
    response: { id, object: "response", status: "completed", output: [item], usage: usage() },
  });
  response.end();
}

function message(id: string, status: string, text: string | undefined) {
  const content = text === undefined ? [] : [{ type: "output_text", text, annotations: [] }];
  return { type: "message", id, role: "assistant", status, content };
}

function usage() {
  const { input_tokens, cached_tokens, output_tokens, reasoning_tokens } = reportedUsage;
  return {
    input_tokens,
    input_tokens_details: { cached_tokens },
    output_tokens,
    output_tokens_details: { reasoning_tokens },
    total_tokens: input_tokens + output_tokens,
  };
}
