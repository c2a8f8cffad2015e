// A model provider on this machine that speaks the four APIs that agents use: what a third-party agent talks to in tests. A prompt's text
// chooses the answer; script.ts says how.
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { chatApi } from "./chat.ts";
import type { Answering, Body, Dialect } from "./dialect.ts";
import { geminiApi } from "./gemini.ts";
import { messagesApi } from "./messages.ts";
import { responsesApi } from "./responses.ts";
import { callsFor, type Step, stepsFor } from "./script.ts";
import { needsSearch, resolveCalls } from "./tools.ts";

export { defaultAnswer, reportedUsage } from "./script.ts";

export interface ModelServer extends AsyncDisposable {
  /** Such as http://127.0.0.1:41234. */
  readonly origin: string;
  /** The base URL for an OpenAI-compatible client, ending in /v1. */
  readonly url: string;
  /** Bodies of the requests so far, oldest first. */
  readonly requests: readonly Body[];
  /** Answers whose client went away before their end. */
  readonly abandoned: () => number;
}

const dialects: readonly Dialect[] = [responsesApi, chatApi, messagesApi, geminiApi];

export async function startModelServer(): Promise<ModelServer> {
  const requests: Body[] = [];
  let abandoned = 0;

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = new URL(request.url ?? "/", "http://local").pathname;
    const body = parse(await readAll(request));
    const dialect = dialects.find((each) => each.matches(path));
    if (request.method !== "POST" || !dialect) return notFound(response);
    requests.push(body);
    const asked = dialect.lastUserText(body);
    const results = dialect.toolResults(body);
    const scripted = results === undefined ? callsFor(asked) : [];
    const calls = resolveCalls(scripted, body, requests.length);
    const steps = results === undefined ? stepsFor(asked) : [{ text: `The tools said: ${results}`, delayMs: 0 }];
    const answering = dialect.answer(body);
    if (calls.length > 0 && dialect.streams(path, body)) {
      response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
      const search = needsSearch(scripted, body)
        ? answering.search?.(scripted.map(({ name }) => name).join(" "))
        : undefined;
      response.end(search ?? answering.calls(calls));
      return;
    }
    if (!dialect.streams(path, body)) {
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify(answering.whole(steps.map(({ text }) => text).join(""))));
      return;
    }
    await stream(response, answering, steps);
    if (!response.writableFinished && response.destroyed) abandoned += 1;
  }

  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => response.destroy(error as Error));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const origin = `http://127.0.0.1:${port}`;
  return {
    origin,
    url: `${origin}/v1`,
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

function parse(text: string): Body {
  return text.startsWith("{") ? (JSON.parse(text) as Body) : {};
}

function notFound(response: ServerResponse): void {
  response.writeHead(404, { "content-type": "application/json" });
  response.end(JSON.stringify({ error: { message: "There is no such call here.", type: "invalid_request_error" } }));
}

async function stream(response: ServerResponse, answering: Answering, steps: readonly Step[]): Promise<void> {
  const left = new AbortController();
  response.once("close", () => left.abort());
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
  response.write(answering.begin());
  let text = "";
  try {
    for (const step of steps) {
      if (step.delayMs > 0) await sleep(step.delayMs, undefined, { signal: left.signal });
      text += step.text;
      response.write(answering.piece(step.text));
    }
  } catch (error) {
    if (left.signal.aborted) return;
    throw error;
  }
  response.end(answering.end(text));
}
