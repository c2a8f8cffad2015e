// HTTP as it should be, over raw sockets: pipelining, slow and broken senders, slow starts, TLS, CORS, overload.
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { request as httpsRequest } from "node:https";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import { toJsonString } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { PromptSchema } from "#gen/drawbridge/v1/prompt";
import { DrawbridgeError, type Reason } from "../../../services/kit/errors.ts";
import { silentLog } from "../../../services/kit/log.ts";
import { startRpcServer } from "../../../services/kit/rpc/server.ts";
import { openTier } from "../../support/fleet.ts";
import { until } from "../../support/until.ts";
import { apiKey, failure, finished, type GatewayUnderTest, model, startGatewayUnderTest, text } from "./harness.ts";

let stack: AsyncDisposableStack;
beforeEach(() => {
  stack = new AsyncDisposableStack();
});
afterEach(() => stack.disposeAsync());

async function start(settings: Record<string, unknown> = {}, tiers?: Record<string, object>) {
  return stack.use(await startGatewayUnderTest({ settings, ...(tiers ? { tiers } : {}) }));
}

const chatBody = (content: string, stream = false) =>
  JSON.stringify({ model, stream, messages: [{ role: "user", content }] });

function chatText(content: string, headers: readonly string[] = []): string {
  const body = chatBody(content);
  const head = [
    "POST /v1/chat/completions HTTP/1.1",
    "host: x",
    `authorization: Bearer ${apiKey}`,
    "content-type: application/json",
    `content-length: ${Buffer.byteLength(body)}`,
    ...headers,
  ];
  return `${head.join("\r\n")}\r\n\r\n${body}`;
}

/** A connection, and what has come on it so far. */
async function dial(gateway: GatewayUnderTest): Promise<{ socket: Socket; received: () => string }> {
  const socket = connect(gateway.port, "127.0.0.1");
  stack.defer(() => void socket.destroy());
  await once(socket, "connect");
  let received = "";
  socket.on("error", () => {});
  socket.setEncoding("utf8").on("data", (chunk: string) => (received += chunk));
  return { socket, received: () => received };
}

const statuses = (received: string) => [...received.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status);

describe("HTTP/1.1", () => {
  test("pipelined requests are answered in their order, each with its own answer", async () => {
    const gateway = await start();
    // The first one is slow, so the second is done before it.
    gateway.engine.script = async function* (call) {
      const prompt = toJsonString(PromptSchema, call.prompt);
      if (prompt.includes("first")) await sleep(100);
      yield text(prompt.includes("first") ? "answer one" : prompt.includes("second") ? "answer two" : "answer three");
      yield finished(call.request);
    };
    const { socket, received } = await dial(gateway);
    socket.write(chatText("first") + chatText("second") + chatText("third", ["connection: close"]));
    await once(socket, "close");
    expect(statuses(received())).toEqual(["200", "200", "200"]);
    const places = ["answer one", "answer two", "answer three"].map((each) => received().indexOf(each));
    expect(places).toEqual(places.toSorted((a, b) => a - b));
    expect(places).not.toContain(-1);
  });

  test("a refused request leaves the connection to the next one", async () => {
    const gateway = await start();
    const { socket, received } = await dial(gateway);
    const bad =
      'POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 7\r\ncontent-type: application/json\r\n\r\n{"a":1}';
    socket.write(bad + chatText("next", ["connection: close"]));
    await once(socket, "close");
    expect(statuses(received())).toEqual(["401", "200"]);
  });

  test.each([
    ["what is not HTTP", "NONSENSE\r\n\r\n", "400", "bad_http"],
    [
      "two lengths",
      `POST /v1/models HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n`,
      "400",
      "bad_http",
    ],
    [
      "headers that are too large",
      `GET /v1/models HTTP/1.1\r\nhost: x\r\nx-big: ${"x".repeat(70_000)}\r\n\r\n`,
      "431",
      "headers_too_large",
    ],
  ])("%s is answered in the API's form of errors, and the connection ends", async (_, sent, status, code) => {
    const gateway = await start();
    const { socket, received } = await dial(gateway);
    socket.write(sent);
    await once(socket, "close");
    expect(statuses(received())).toEqual([status]);
    expect(JSON.parse(received().split("\r\n\r\n")[1] ?? "")).toMatchObject({ error: { code, param: null } });
  });

  test("whoever sends a body that is too large can read why, however much is still to come", async () => {
    const gateway = await start({ body_limit: "64KiB" });
    const { socket, received } = await dial(gateway);
    const length = 8 << 20;
    const head = ["POST /v1/chat/completions HTTP/1.1", "host: x", `authorization: Bearer ${apiKey}`];
    socket.write([...head, "content-type: application/json", `content-length: ${length}`, "", ""].join("\r\n"));
    socket.write(Buffer.alloc(length / 2, "x"));
    await until("the answer is there", () => received().includes("request_too_large"));
    socket.write(Buffer.alloc(length / 2, "x"));
    socket.write(chatText("the next one", ["connection: close"]));
    await once(socket, "close");
    expect(statuses(received())).toEqual(["413", "200"]);
  });

  test("nonsense behind a request does not come into its answer", async () => {
    const gateway = await start();
    gateway.engine.script = async function* (call) {
      await sleep(100);
      yield text("whole");
      yield finished(call.request);
    };
    const { socket, received } = await dial(gateway);
    socket.write(`${chatText("one")}NONSENSE\r\n\r\n`);
    await once(socket, "close");
    expect(statuses(received())).toEqual(["200"]);
    expect(received()).toContain("whole");
  });

  test("who sends too slowly is told so and disconnected, in headers and in bodies", async () => {
    const gateway = await start({ headers_timeout: "200ms", receive_timeout: "300ms" });
    const inHeaders = await dial(gateway);
    inHeaders.socket.write("GET /v1/models HTTP/1.1\r\nhost: x\r\n");
    const inBody = await dial(gateway);
    inBody.socket.write(chatText("slow").slice(0, -5));
    await Promise.all([once(inHeaders.socket, "close"), once(inBody.socket, "close")]);
    for (const { received } of [inHeaders, inBody]) {
      expect(statuses(received())).toEqual(["408"]);
      expect(received()).toContain('"code":"request_timeout"');
      expect(received()).toMatch(/\r\nx-request-id: req_\w+\r\n/);
    }
  });

  test("who goes on too slowly with what was refused is disconnected without another answer", async () => {
    const gateway = await start({ body_limit: "1KiB", headers_timeout: "200ms", receive_timeout: "300ms" });
    const { socket, received } = await dial(gateway);
    socket.write(chatText("x".repeat(4_000)).slice(0, -5));
    await once(socket, "close");
    expect(statuses(received())).toEqual(["413"]);
  });
});

describe("a stream that starts slowly", () => {
  test("gets its headers and comments after the wait, and then its content", async () => {
    const gateway = await start({ first_content_wait: "50ms", keep_alive_interval: "50ms" });
    let release = () => {};
    const released = new Promise<void>((resolve) => (release = resolve));
    gateway.engine.script = async function* (call) {
      await released;
      yield text("late");
      yield finished(call.request);
    };
    const response = await gateway.request("/v1/chat/completions", { body: JSON.parse(chatBody("x", true)) });
    expect(response.status).toBe(200);
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    expect((await reader?.read())?.value).toMatch(/^:/);
    release();
    let rest = "";
    for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) rest += part.value;
    expect(rest).toContain('"role":"assistant"');
    expect(rest).toContain("late");
    expect(rest.trimEnd()).toMatch(/data: \[DONE\]$/);
  });

  test("that fails before the wait is over fails by its status, and after it by an event", async () => {
    const gateway = await start({ first_content_wait: "150ms" });
    const fail = (afterMs: number, reason: Reason = "AGENT_ERROR"): void => {
      gateway.engine.script = async function* (call) {
        await sleep(afterMs);
        if (afterMs >= 0) throw failure(call.request, reason);
        yield text("");
      };
    };
    fail(0);
    const early = await gateway.request("/v1/chat/completions", { body: JSON.parse(chatBody("x", true)) });
    expect(early.status).toBe(502);
    fail(400);
    const late = await gateway.request("/v1/chat/completions", { body: JSON.parse(chatBody("x", true)) });
    expect(late.status).toBe(200);
    expect(await late.text()).toMatch(/data: {"error":/);
    fail(400, "CONTEXT_LENGTH_EXCEEDED");
    const named = await gateway.request("/v1/chat/completions", { body: JSON.parse(chatBody("x", true)) });
    expect(await named.text()).toContain('"param":"messages","code":"context_length_exceeded"}}');
  });
});

describe("CORS", () => {
  const origin = "https://app.example.com";

  test("is off unless origins are named", async () => {
    const gateway = await start();
    const answer = await gateway.request("/v1/models", { headers: { origin } });
    expect(answer.headers.get("access-control-allow-origin")).toBeNull();
    expect((await gateway.request("/v1/models", { method: "OPTIONS", apiKey: null })).status).toBeGreaterThan(399);
  });

  test("lets the named origins in, also to streams and errors, and no other", async () => {
    const gateway = await start({ cors_origins: [origin] });
    const preflight = await gateway.request("/v1/chat/completions", {
      method: "OPTIONS",
      apiKey: null,
      headers: { origin, "access-control-request-headers": "authorization,x-stainless-os" },
    });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get("access-control-allow-headers")).toBe("authorization,x-stainless-os");
    const stream = await gateway.request("/v1/chat/completions", {
      body: JSON.parse(chatBody("x", true)),
      headers: { origin },
    });
    await stream.text();
    const refused = await gateway.request("/v1/models", { apiKey: "sk-wrong", headers: { origin } });
    for (const answer of [preflight, stream, refused]) {
      expect(answer.headers.get("access-control-allow-origin")).toBe(origin);
    }
    const other = await gateway.request("/v1/models", { headers: { origin: "https://evil.example.com" } });
    expect(other.headers.get("access-control-allow-origin")).toBeNull();
  });
});

describe("addresses", () => {
  test("x-forwarded-for counts only from proxies that are trusted", async () => {
    const restricted = async (gateway: GatewayUnderTest) => {
      await gateway.state.access.updateKey(
        (await gateway.state.access.listKeys(undefined, "", 1))[0]?.id ?? "",
        { allowedAddresses: ["198.51.100.7"] },
        Date.now(),
      );
      const ask = async (forwarded: string) =>
        (await gateway.request("/v1/models", { headers: { "x-forwarded-for": forwarded } })).status;
      return { ask };
    };
    const open = await restricted(await start());
    expect(await open.ask("198.51.100.7")).toBe(401);
    const behind = await restricted(await start({ trusted_proxies: ["127.0.0.1", "10.0.0.0/8"] }));
    await until("the change is seen", async () => (await behind.ask("198.51.100.7")) === 200);
    expect(await behind.ask("192.0.2.1, 198.51.100.7, 10.1.1.1")).toBe(200);
    // What a client says of itself stands left of what the proxy saw.
    expect(await behind.ask("198.51.100.7, 192.0.2.1")).toBe(401);
    expect(await behind.ask("nonsense")).toBe(401);
  });
});

describe("overload", () => {
  test("refuses low priority first, counts it, and takes requests again when others have ended", async () => {
    const gateway = await start(
      { overload: { in_flight_max: 10 } },
      { default: openTier, low: { ...openTier, priority: "low" } },
    );
    let release = () => {};
    const released = new Promise<void>((resolve) => (release = resolve));
    gateway.engine.script = async function* (call) {
      await released;
      yield text("x");
      yield finished(call.request);
    };
    const send = () => gateway.request("/v1/chat/completions", { body: JSON.parse(chatBody("x")) });
    const running = Array.from({ length: 8 }, send);
    await until("eight run", () => gateway.engine.prompts.length === 8);
    await gateway.state.access.updateUser("default", { tier: "low" }, Date.now());
    const refused = await until("low is refused", async () => {
      const answer = await gateway.request("/v1/models");
      return answer.status === 503 && answer;
    });
    expect(await refused.json()).toMatchObject({ error: { code: "server_is_overloaded" } });
    expect(refused.headers.get("retry-after")).toBe("1");
    expect((await gateway.request("/healthz", { apiKey: null })).status).toBe(200);
    const metrics = await (await gateway.request("/metrics", { apiKey: null })).text();
    expect(metrics).toMatch(/drawbridge_requests_shed_total\{cause="in_flight",priority="low"\} [1-9]/);
    await gateway.state.access.updateUser("default", { tier: "default" }, Date.now());
    await until("normal is taken", async () => (await gateway.request("/v1/models")).status === 200);
    release();
    for (const answer of await Promise.all(running)) expect(answer.status).toBe(200);
  });
});

describe("TLS", () => {
  function makeCertificate(directory: string, name: string) {
    const files = { certFile: join(directory, "cert.pem"), keyFile: join(directory, "key.pem") };
    execFileSync(
      "openssl",
      [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        `/CN=${name}`,
      ].concat(["-keyout", files.keyFile, "-out", files.certFile]),
      { stdio: "pipe" },
    );
    return files;
  }

  test("serves HTTP/1.1 to who offers both, HTTP/2 to who offers only that, and reads a new certificate", async () => {
    const directory = mkdtempSync(join(tmpdir(), "drawbridge-tls-"));
    stack.defer(() => rmSync(directory, { recursive: true, force: true }));
    const tls = makeCertificate(directory, "one");
    const server = stack.use(
      await startRpcServer({
        listen: { host: "127.0.0.1", port: 0 },
        services: [],
        authorize: () => {},
        http: (app) => void app.get("/hello", () => ({ hello: "there" })),
        ready: () => true,
        log: silentLog,
        tls: { ...tls, lookEveryMs: 50 },
      }),
    );
    expect(server.address).toMatch(/^https:/);
    const port = Number(new URL(server.address).port);
    const answer = await new Promise<string>((resolve, reject) => {
      const request = httpsRequest(`${server.address}/hello`, { rejectUnauthorized: false }, (response) => {
        response.setEncoding("utf8").once("data", resolve);
      });
      request.once("error", reject).end();
    });
    expect(JSON.parse(answer)).toEqual({ hello: "there" });
    const handshake = async (protocols: string[]) => {
      const socket = connectTls({ port, host: "127.0.0.1", rejectUnauthorized: false, ALPNProtocols: protocols });
      await once(socket, "secureConnect");
      const found = { protocol: socket.alpnProtocol, name: socket.getPeerCertificate().subject.CN };
      socket.destroy();
      return found;
    };
    expect(await handshake(["h2", "http/1.1"])).toEqual({ protocol: "http/1.1", name: "one" });
    expect(await handshake(["h2"])).toMatchObject({ protocol: "h2" });
    writeFileSync(tls.certFile, "half written");
    makeCertificate(directory, "two");
    await until("the new certificate is served", async () => (await handshake(["http/1.1"])).name === "two");
  });

  test("files that cannot be used are refused at the start", async () => {
    const refused = startRpcServer({
      listen: { host: "127.0.0.1", port: 0 },
      services: [],
      authorize: () => {},
      ready: () => true,
      log: silentLog,
      tls: { certFile: "/nowhere/cert.pem", keyFile: "/nowhere/key.pem" },
    });
    await expect(refused).rejects.toThrow(DrawbridgeError);
  });
});
