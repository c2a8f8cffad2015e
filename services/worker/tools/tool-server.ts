// The MCP server that offers clients' tools to agents: streamable HTTP on a loopback port of its own, one secret path for each session. It
// begins to listen with the first session that needs it.
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { McpServer } from "@agentclientprotocol/sdk/unstable";
import type { Clock } from "../../kit/clock.ts";
import type { Log } from "../../kit/log.ts";
import { newId } from "../../kit/random.ts";
import { toolServerName } from "../profiles/profile.ts";
import type { Frame } from "../protocol/framing.ts";
import { failed, type McpCall, progress, readMcp, result } from "./mcp.ts";
import { createToolDesk, type OfferedTool, type ToolDesk } from "./tool-desk.ts";

export interface ToolServerOptions {
  readonly version: string;
  /** The largest message of an agent, in bytes. */
  readonly messageBytesMax: number;
  readonly clock: Clock;
  readonly log: Log;
}

export interface ToolServer extends AsyncDisposable {
  /** A desk for the tools of a session. `progressMs`: how often the agent hears that a call goes on. */
  open(tools: readonly OfferedTool[], progressMs: number): Promise<OpenDesk>;
}

export interface OpenDesk {
  readonly desk: ToolDesk;
  /** For session/new. */
  readonly mcpServer: McpServer;
}

interface Entry {
  readonly desk: ToolDesk;
  readonly progressMs: number;
}

export function createToolServer(options: ToolServerOptions): ToolServer {
  const entries = new Map<string, Entry>();
  let listening: Promise<{ server: Server; port: number }> | undefined;

  async function listen(): Promise<{ server: Server; port: number }> {
    const server = createServer((request, response) => {
      serve(request, response).catch((error: unknown) => {
        options.log.warn({ err: error }, "a message of an agent to its tool server failed");
        response.destroy();
      });
    });
    // A call that waits for the client is no slow request.
    server.requestTimeout = 0;
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return { server, port: (server.address() as AddressInfo).port };
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const entry = entries.get(request.url?.split("/").at(-1) ?? "");
    if (!entry) return refuse(response, 404);
    // Neither a stream of the server's own nor sessions of its own are offered.
    if (request.method !== "POST") return refuse(response, request.method === "DELETE" ? 200 : 405);
    const message = await readMessage(request, options.messageBytesMax);
    if (message === undefined) return refuse(response, 413);
    const step = readMcp(message, entry.desk.tools, { name: toolServerName, version: options.version });
    if (step.kind === "accept") return refuse(response, 202);
    if (step.kind === "call") return await serveCall(entry, step.call, response, options.clock);
    writeJson(response, step.message);
    if (step.listed) entry.desk.markListed();
  }

  return {
    async open(tools, progressMs) {
      const { port } = await (listening ??= listen());
      const token = randomBytes(24).toString("base64url");
      const desk = createToolDesk({
        tools,
        server: toolServerName,
        newCallId: () => newId("call"),
        onDispose: () => void entries.delete(token),
      });
      entries.set(token, { desk, progressMs });
      const url = `http://127.0.0.1:${port}/mcp/${token}`;
      return { desk, mcpServer: { type: "http", name: toolServerName, url, headers: [] } };
    },
    async [Symbol.asyncDispose]() {
      if (!listening) return;
      const { server } = await listening;
      for (const { desk } of entries.values()) desk[Symbol.dispose]();
      server.close();
      server.closeAllConnections();
    },
  };
}

/** Bytes flow until the result is there, so that nobody on the way takes the call for dead. */
async function serveCall(
  { desk, progressMs }: Entry,
  call: McpCall,
  response: ServerResponse,
  clock: Clock,
): Promise<void> {
  const slot = desk.call(call.name, call.argumentsJson);
  if (!slot) return writeJson(response, failed(call.id, -32603, "Too many calls wait for their results."));
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
  response.write(": waiting\n\n");
  response.once("close", () => slot.giveUp());
  let count = 0;
  let timer: Disposable | undefined;
  const tell = () => {
    count += 1;
    response.write(call.progressToken === undefined ? ": waiting\n\n" : event(progress(call.progressToken, count)));
    timer = clock.after(progressMs, tell);
  };
  timer = clock.after(progressMs, tell);
  const answer = await slot.result;
  timer[Symbol.dispose]();
  if (!response.destroyed) response.end(event(result(call.id, answer)));
}

function event(message: Frame): string {
  return `event: message\ndata: ${JSON.stringify(message)}\n\n`;
}

function writeJson(response: ServerResponse, message: Frame): void {
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(message));
}

function refuse(response: ServerResponse, status: number): void {
  response.writeHead(status).end();
}

/** undefined: it is too large. What is no JSON is null, which is no message. */
async function readMessage(request: IncomingMessage, bytesMax: number): Promise<unknown> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    bytes += part.length;
    if (bytes > bytesMax) return undefined;
    parts.push(part);
  }
  try {
    return JSON.parse(Buffer.concat(parts).toString("utf8")) as unknown;
  } catch {
    return null;
  }
}
