// What a gateway on fastify costs that parses each body and bills nobody: JSON in, JSON out to the upstream, its answer passed on. Argument:
// the upstream's port.
import type { Server } from "node:net";
import { fastify } from "fastify";
import { Pool } from "undici";
import { announceListening } from "../processes.ts";

const pool = new Pool(`http://127.0.0.1:${process.argv[2]}`, { connections: 4_096, pipelining: 1 });
const app = fastify({ bodyLimit: 8 << 20 });
app.post<{ Body: { model?: string } }>("/v1/chat/completions", async (request, reply) => {
  if (typeof request.body.model !== "string") return reply.code(400).send({ error: { message: "model is missing" } });
  const answer = await pool.request({
    path: "/v1/chat/completions",
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(request.body),
  });
  reply.code(answer.statusCode).header("content-type", answer.headers["content-type"] ?? "application/json");
  return reply.send(answer.body);
});
await app.ready();
announceListening(app.server as Server);
