// An OpenAI-compatible upstream for the yardsticks, as a process of its own. Its prompts say what to answer, as the fake agent's do.
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { text } from "node:stream/consumers";
import { announceListening } from "./processes.ts";
import { playAnswer } from "./answer.ts";
import { parsePrompt, type PromptPlan } from "./prompt.ts";

const common = '"id":"chatcmpl-bench","created":1700000000,"model":"bench"';
const eventHead = `data: {${common},"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"`;
const eventTail = '"},"finish_reason":null}]}\n\n';
const streamTail = `data: {${common},"object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n`;

async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = await text(request);
  const receivedAt = performance.now();
  const plan = parsePrompt(body);
  if (body.includes('"stream":true')) stream(plan, receivedAt, response);
  else whole(plan, receivedAt, response);
}

function stream(plan: PromptPlan, receivedAt: number, response: ServerResponse): void {
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache" });
  playAnswer({
    plan,
    receivedAt,
    write(content) {
      if (response.write(`${eventHead}${content}${eventTail}`)) return undefined;
      return Promise.race([once(response, "drain"), once(response, "close")]).then(() => undefined);
    },
    end: () => response.end(streamTail),
    stopped: () => response.destroyed,
    // One chunk a turn of the event loop: each leaves in a write of its own.
    burst: 1,
  });
}

function whole(plan: PromptPlan, receivedAt: number, response: ServerResponse): void {
  let content = "";
  playAnswer({
    plan,
    receivedAt,
    write(piece) {
      content += piece;
      return undefined;
    },
    end() {
      const body = `{${common},"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"${content}"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`;
      response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(body) });
      response.end(body);
    },
    stopped: () => response.destroyed,
    burst: plan.chunks,
  });
}

const server = createServer((request, response) => {
  handle(request, response).catch((error: unknown) => {
    response.writeHead(400, { "content-type": "text/plain" });
    response.end(String(error));
  });
});
announceListening(server);
