// The least that a proxy in Node can do: no parsing, no keys, no billing. Bytes in, bytes out. Argument: the upstream's port.
import { Agent, createServer, request as openRequest } from "node:http";
import { pipeline } from "node:stream";
import { announceListening } from "../processes.ts";

const upstreamPort = Number(process.argv[2]);
const agent = new Agent({ keepAlive: true, maxSockets: Number.POSITIVE_INFINITY, maxFreeSockets: 4_096 });

const server = createServer((request, response) => {
  const { method, url: path, headers } = request;
  const forwarded = openRequest({ agent, host: "127.0.0.1", port: upstreamPort, method, path, headers }, (answer) => {
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    pipeline(answer, response, () => {});
  });
  forwarded.on("error", () => {
    if (response.headersSent) response.destroy();
    else response.writeHead(502).end();
  });
  response.on("close", () => {
    if (!response.writableFinished) forwarded.destroy();
  });
  request.pipe(forwarded);
});
announceListening(server);
