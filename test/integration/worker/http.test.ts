import { fastify } from "fastify";
import type { AddressInfo } from "node:net";
import { describe, expect, it } from "vitest";
import { until } from "../../support/until.ts";
import { accountId, publicModel, startWorker, type WorkerUnderTest } from "./harness.ts";

async function listen(worker: WorkerUnderTest) {
  const http = fastify();
  worker.app.routes(http as never);
  await http.listen({ host: "127.0.0.1", port: 0 });
  const { port } = http.server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, [Symbol.asyncDispose]: () => http.close() };
}

function body(instruction: Record<string, unknown>): RequestInit {
  const prompt = {
    model: publicModel,
    messages: [{ role: "ROLE_USER", parts: [{ text: JSON.stringify(instruction) }] }],
  };
  const fields = { request_id: "req_1", attempt_id: "att_1", account_id: accountId, prompt };
  return { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(fields) };
}

function eventsOf(text: string): { event: string; data: Record<string, unknown> }[] {
  return text
    .split("\n\n")
    .filter(Boolean)
    .map((block) => ({
      event: /^event: (.*)$/m.exec(block)?.[1] ?? "message",
      data: JSON.parse(/^data: (.*)$/m.exec(block)?.[1] ?? "null") as Record<string, unknown>,
    }));
}

describe("plain HTTP", () => {
  it("streams a prompt's batches", async () => {
    await using worker = await startWorker();
    await using server = await listen(worker);
    const response = await fetch(`${server.url}/prompt`, body({ do: "answer", chunks: 3 }));
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("text/event-stream");
    const events = eventsOf(await response.text()).flatMap(
      ({ data }) => data["events"] as Record<string, { text?: string }>[],
    );
    expect(events[0]).toHaveProperty("started");
    expect(events.map((event) => event["text"]?.text ?? "").join("")).toBe("w0 w0 w0w1 w1 w1w2 w2 w2");
    expect(events.at(-1)).toMatchObject({
      finished: { stop_reason: "STOP_REASON_END_TURN", outcome: { end: "END_FINISHED" } },
    });
  });

  it("tells failures by status before the first event, and by an event after it", async () => {
    await using worker = await startWorker();
    await using server = await listen(worker);
    const refused = await fetch(`${server.url}/prompt`, {
      ...body({ do: "answer" }),
      body: JSON.stringify({ request_id: "r" }),
    });
    expect(refused.status).toBe(400);
    expect(await refused.json()).toMatchObject({ error: { reason: "INVALID_ARGUMENT" } });
    const broken = await fetch(`${server.url}/prompt`, body({ do: "die", chunks: 1 }));
    expect(broken.status).toBe(200);
    expect(eventsOf(await broken.text()).at(-1)).toMatchObject({
      event: "error",
      data: { reason: "AGENT_CRASHED", outcome: { end: "END_FAILED_AFTER_CONTENT" } },
    });
  });

  it("cancels the prompt of a client that leaves", async () => {
    await using worker = await startWorker();
    await using server = await listen(worker);
    const leaving = new AbortController();
    const response = await fetch(`${server.url}/prompt`, {
      ...body({ do: "hang", chunks: 1 }),
      signal: leaving.signal,
    });
    expect(response.status).toBe(200);
    leaving.abort();
    await until("the slot is free", async () => (await worker.pool()).availableSlots === 1);
  });

  it("shows health and slots, and drains", async () => {
    await using worker = await startWorker();
    await using server = await listen(worker);
    await worker.ready();
    const health = await fetch(`${server.url}/health`);
    expect(health.status).toBe(200);
    expect(await health.json()).toMatchObject({ worker: { id: "worker-1", health: "HEALTH_HEALTHY" } });
    const slots = await fetch(`${server.url}/slots`);
    expect(await slots.json()).toMatchObject({
      pools: [{ account_id: accountId, slots: 1, available_slots: 1, queue_depth: 0 }],
    });
    const drain = await fetch(`${server.url}/drain`, { method: "POST" });
    expect(await drain.json()).toEqual({ in_flight: 0 });
    await worker.app.drained;
    expect((await fetch(`${server.url}/health`)).status).toBe(503);
  });
});
