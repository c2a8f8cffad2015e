// undici's fastest call as a proxy: bytes in, bytes out, no parsing. Argument: the upstream's port.
import { createServer, type ServerResponse } from "node:http";
import { type Dispatcher, Pool } from "undici";
import { announceListening } from "../processes.ts";

const pool = new Pool(`http://127.0.0.1:${process.argv[2]}`, { connections: 4_096, pipelining: 1 });

function passOn(response: ServerResponse): Dispatcher.DispatchHandler {
  return {
    onRequestStart(controller) {
      response.on("close", () => {
        if (!response.writableFinished) controller.abort(new Error("The client left."));
      });
    },
    onResponseStart(_, statusCode, headers) {
      response.writeHead(statusCode, headers as never);
    },
    onResponseData(controller, chunk) {
      if (response.write(chunk)) return;
      controller.pause();
      response.once("drain", () => controller.resume());
    },
    onResponseEnd: () => void response.end(),
    onResponseError() {
      if (response.headersSent) response.destroy();
      else response.writeHead(502).end();
    },
  };
}

const server = createServer((request, response) => {
  const { url: path = "/", method = "GET", headers } = request;
  const { "content-type": type, authorization } = headers;
  const kept = { ...(type ? { "content-type": type } : {}), ...(authorization ? { authorization } : {}) };
  pool.dispatch({ path, method: method as Dispatcher.HttpMethod, headers: kept, body: request }, passOn(response));
});
announceListening(server);
