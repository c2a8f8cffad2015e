// Probes, metrics, the log, and the end.
import { Writable } from "node:stream";
import { describe, expect, it } from "vitest";
import { createLog } from "../../../services/kit/log.ts";
import {
  finished,
  model,
  apiKey,
  type GatewayUnderTest,
  says,
  saysUntilCancelled,
  started,
  startGatewayUnderTest,
  text,
} from "./harness.ts";
import { expectApiError } from "../../support/api-error.ts";
import { until } from "../../support/until.ts";

const path = "/v1/chat/completions";
const secretPrompt = "the prompt that nobody else may read";
const body = (fields: object = {}) => ({
  model,
  messages: [{ role: "user" as const, content: secretPrompt }],
  ...fields,
});

describe("probes", () => {
  it("tell whether a model can be served", async () => {
    await using gateway = await startGatewayUnderTest();
    const statusOf = async (url: string) => (await gateway.request(url, { apiKey: null })).status;
    expect([await statusOf("/healthz"), await statusOf("/readyz")]).toEqual([200, 200]);
    gateway.engine.models = [{ name: model, ready: false }];
    await until("it is not ready", async () => (await statusOf("/readyz")) === 503);
    expect(await statusOf("/healthz")).toBe(200);
    gateway.engine.models = [
      { name: "another", ready: true },
      { name: model, ready: false },
    ];
    await until("it is ready", async () => (await statusOf("/readyz")) === 200);
  });
});

describe("metrics", () => {
  const valueOf = async (gateway: GatewayUnderTest, line: string): Promise<number> => {
    const lines = (await (await gateway.request("/metrics", { apiKey: null })).text()).split("\n");
    return Number(lines.find((each) => each.startsWith(`${line} `))?.slice(line.length + 1) ?? Number.NaN);
  };

  it("count requests, tokens, money and time, and what runs", async () => {
    await using gateway = await startGatewayUnderTest();
    await (await gateway.request(path, { body: body() })).text();
    await (await gateway.request(path, { body: body({ n: 2 }) })).text();
    const labels = (status: number, name: string, end: string) =>
      `{route="${path}",status="${status}",model="${name}",end="${end}"}`;
    const requests = (...of: Parameters<typeof labels>) => `drawbridge_requests_total${labels(...of)}`;
    await until("both are counted", async () => (await valueOf(gateway, requests(400, "", ""))) === 1);
    expect(await valueOf(gateway, requests(200, model, "finished"))).toBe(1);
    expect(await valueOf(gateway, `drawbridge_tokens_total{model="${model}",direction="input"}`)).toBe(10);
    expect(await valueOf(gateway, `drawbridge_tokens_total{model="${model}",direction="output"}`)).toBe(5);
    expect(await valueOf(gateway, `drawbridge_cost_micros_total{model="${model}"}`)).toBe(510);
    expect(await valueOf(gateway, `drawbridge_first_content_seconds_count{model="${model}"}`)).toBe(1);
    // The one that asks.
    expect(await valueOf(gateway, "drawbridge_requests_in_flight")).toBe(1);
  });

  it("count clients that left, and end their requests with the settlement", async () => {
    await using gateway = await startGatewayUnderTest();
    gateway.engine.script = saysUntilCancelled;
    const stream = await gateway.openai().chat.completions.create({ ...body(), stream: true });
    expect(await valueOf(gateway, "drawbridge_requests_in_flight")).toBe(2);
    stream.controller.abort();
    const left = `drawbridge_requests_total{route="${path}",status="499",model="${model}",end="cancelled"}`;
    await until("it is counted", async () => (await valueOf(gateway, left)) === 1);
    expect(await valueOf(gateway, "drawbridge_requests_in_flight")).toBe(1);
    expect(await valueOf(gateway, `drawbridge_cost_micros_total{model="${model}"}`)).toBe(310);
  });

  it("have no label that a client can make up", async () => {
    await using gateway = await startGatewayUnderTest();
    await gateway.request("/v1/made-up-url", { body: {} });
    await gateway.request(path, { body: body({ model: "made-up-model" }) });
    await gateway.request("/v1/models/made-up-model");
    const metrics = await (await gateway.request("/metrics")).text();
    expect(metrics).not.toContain("made-up");
  });
});

describe("the log", () => {
  it("has a line for each request, without prompts, answers and keys", async () => {
    let written = "";
    const destination = new Writable({
      write(part: Buffer, _, done) {
        written += part.toString();
        done();
      },
    });
    const log = createLog({ name: "gateway", level: "trace", destination });
    await using gateway = await startGatewayUnderTest({ log });
    gateway.engine.script = says("the answer that nobody else may read");
    const good = await gateway.request(path, { body: body() });
    await good.text();
    await (await gateway.request(path, { body: body({ n: 2 }) })).text();
    await (await gateway.request(path, { body: `{"broken": "${secretPrompt}` })).text();
    await (await gateway.request(path, { apiKey: "sk-wrong-key", body: body() })).text();
    const lines = () =>
      written
        .split("\n")
        .filter(Boolean)
        .map((line) => JSON.parse(line) as Record<string, unknown>)
        .filter(({ msg }) => msg === "request");
    await until("all four are logged", () => lines().length === 4);
    expect(lines()[0]).toMatchObject({
      request_id: good.headers.get("x-request-id"),
      route: path,
      status: 200,
      model,
      user: "default",
      end: "finished",
      costMicros: 510,
    });
    expect(lines().map(({ status }) => status)).toEqual([200, 400, 400, 401]);
    for (const secret of [secretPrompt, "nobody else may read", apiKey, "sk-wrong-key"])
      expect(written).not.toContain(secret);
  });
});

describe("draining", () => {
  it("refuses what is new, and lets what runs finish", async () => {
    await using gateway = await startGatewayUnderTest();
    const finish = Promise.withResolvers<void>();
    gateway.engine.script = async function* waits({ request }) {
      yield started();
      yield text("Hel");
      await finish.promise;
      yield text("lo");
      yield finished(request);
    };
    const running = await gateway.request(path, { body: body({ stream: true }) });
    gateway.app.drain();
    for (const [url, request] of [
      [path, { body: body() }],
      ["/v1/models", {}],
    ] as const) {
      const response = await gateway.request(url, request);
      await expectApiError(response, { status: 503, type: "service_unavailable_error", code: "server_is_overloaded" });
      expect(Number(response.headers.get("retry-after"))).toBeGreaterThan(0);
      expect(response.headers.get("connection")).toBe("close");
    }
    expect((await gateway.request("/readyz", { apiKey: null })).status).toBe(503);
    expect((await gateway.request("/healthz", { apiKey: null })).status).toBe(200);
    finish.resolve();
    expect(await running.text()).toMatch(/"content":"lo".*data: \[DONE\]\n\n$/s);
  });
});

describe("a slow sender", () => {
  it("does not hold a connection open", async () => {
    await using gateway = await startGatewayUnderTest({
      settings: { headers_timeout: "200ms", receive_timeout: "200ms" },
    });
    expect(await gateway.raw(`POST ${path} HTTP/1.1\r\nhost: x\r\n`)).toMatch(/^HTTP\/1\.1 408 /);
  });
});
