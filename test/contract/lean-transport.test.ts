// Our own processes call each other over a lean codec of the Connect protocol. It has to be the protocol: proven here against the stock
// implementation in both directions, and against bytes that no well-behaved peer sends.
import { createServer, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import { connect as connectHttp2, constants } from "node:http2";
import type { AddressInfo } from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient, type ServiceImpl } from "@connectrpc/connect";
import { compressionGzip, connectNodeAdapter, createConnectTransport } from "@connectrpc/connect-node";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Role } from "#gen/drawbridge/v1/prompt";
import {
  type PromptRequest,
  PromptRequestSchema,
  PromptResponseSchema,
  WorkerService,
} from "#gen/drawbridge/v1/worker_service";
import { DrawbridgeError, toConnectError } from "../../services/kit/errors.ts";
import { silentLog } from "../../services/kit/log.ts";
import { createDialer, type Dialer } from "../../services/kit/rpc/client.ts";
import { createEnvelopeReader, writeEnvelope } from "../../services/kit/rpc/lean/envelope.ts";
import { mount, type RpcServer, startRpcServer } from "../../services/kit/rpc/server.ts";
import { seededRandom } from "../support/seeded-random.ts";
import { until } from "../support/until.ts";

const messageBytesMax = 1 << 20;
const bigText = "é".repeat(200_000);

/** What the service saw of its calls. */
const seen = { produced: 0, ended: 0, header: "" };

const service: Partial<ServiceImpl<typeof WorkerService>> = {
  getHealth: () => ({ worker: { id: "w", incarnation: "i" } }),
  async cancelPrompt({ attemptId }, context) {
    seen.header = context.requestHeader.get("x-test") ?? "";
    context.responseHeader.set("x-answer", "yes");
    if (attemptId !== "waits") return { found: true };
    await new Promise((resolve) => context.signal.addEventListener("abort", resolve));
    throw context.signal.reason;
  },
  async *prompt(request, context) {
    const kind = request.prompt?.model;
    const say = (text: string) => ({ events: [{ event: { case: "text" as const, value: { text } } }] });
    if (kind === "echo") yield say(text(request));
    if (kind === "many") for (let i = 0; i < 5_000; i++) yield say(`${i}`);
    if (kind === "fail") {
      yield say("first");
      throw toConnectError(new DrawbridgeError("QUEUE_FULL", 'Füll – 満 – "%".', { retryAfterMs: 1500 }));
    }
    if (kind === "flood" || kind === "waits") {
      try {
        seen.produced = 0;
        while (kind === "flood" && !context.signal.aborted) {
          yield say("x".repeat(60_000));
          seen.produced += 1;
        }
        yield say("before the wait");
        await new Promise((resolve) => context.signal.addEventListener("abort", resolve));
        throw context.signal.reason;
      } finally {
        seen.ended += 1;
      }
    }
  },
};

function text(request: PromptRequest): string {
  const part = request.prompt?.messages[0]?.parts[0]?.part;
  return part?.case === "text" ? part.value : "";
}

function promptRequest(model: string, said = "hi") {
  const messages = [{ role: Role.USER, parts: [{ part: { case: "text" as const, value: said } }] }];
  return { requestId: "r", attemptId: "t", accountId: "a", prompt: { model, messages } };
}

const cleanUp = new AsyncDisposableStack();
let ours: RpcServer;
let stockAddress: string;
let dialer: Dialer;

async function listen(server: Http2Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  cleanUp.defer(() => void server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

beforeAll(async () => {
  ours = await startRpcServer({
    listen: { host: "127.0.0.1", port: 0 },
    services: [mount(WorkerService, service)],
    authorize: () => {},
    ready: () => true,
    log: silentLog,
    limits: { messageBytesMax },
  });
  cleanUp.defer(() => ours.close(0));
  const routes = connectNodeAdapter({
    routes: (router) => router.service(WorkerService, service),
    readMaxBytes: messageBytesMax,
  });
  stockAddress = await listen(createServer({}, routes));
  dialer = cleanUp.use(createDialer({ token: "", messageBytesMax }));
});

afterAll(() => cleanUp.disposeAsync());

const lean = (address: string) => dialer.client(WorkerService, address, { unreachable: "WORKER_UNREACHABLE" });
const stock = (address: string, extra: object = {}) =>
  createClient(WorkerService, createConnectTransport({ baseUrl: address, httpVersion: "2", ...extra }));

const pairs: [string, () => Client<typeof WorkerService>][] = [
  ["lean client, lean server", () => lean(ours.address)],
  ["lean client, stock server", () => lean(stockAddress)],
  ["stock client, lean server", () => stock(ours.address)],
  [
    "stock client that compresses, our server",
    () =>
      stock(ours.address, {
        sendCompression: compressionGzip,
        compressMinBytes: 0,
        acceptCompression: [compressionGzip],
      }),
  ],
  ["stock client with JSON, our server", () => stock(ours.address, { useBinaryFormat: false })],
];

async function collect(answer: AsyncIterable<{ events: { event: { value?: unknown } }[] }>): Promise<string[]> {
  const texts: string[] = [];
  for await (const { events } of answer)
    for (const { event } of events) texts.push((event.value as { text: string }).text);
  return texts;
}

/** What a call threw, as either client tells it. */
async function failure(
  call: () => Promise<unknown>,
): Promise<{ reason?: string; code?: Code; message: string; retryAfterMs?: number }> {
  try {
    await call();
  } catch (error) {
    return error as never;
  }
  throw new Error("the call should have failed");
}

describe.each(pairs)("%s", (_, connect) => {
  test("answers, with headers", async () => {
    expect(await connect().getHealth({})).toMatchObject({ worker: { id: "w" } });
    expect(await connect().cancelPrompt({ attemptId: "x" }, { headers: { "x-test": "a b" } })).toMatchObject({
      found: true,
    });
    expect(seen.header).toBe("a b");
  });

  test("streams messages of every size, in order", async () => {
    for (const said of ["hi", "", bigText])
      expect(await collect(connect().prompt(promptRequest("echo", said)))).toEqual([said]);
    expect(await collect(connect().prompt(promptRequest("many")))).toEqual(
      Array.from({ length: 5_000 }, (__, i) => `${i}`),
    );
    expect(await collect(connect().prompt(promptRequest("empty")))).toEqual([]);
  });

  test("many at once do not mix", async () => {
    const said = Array.from({ length: 200 }, (__, i) => `${i}:${"z".repeat(i * 20)}`);
    const answers = await Promise.all(said.map((each) => collect(connect().prompt(promptRequest("echo", each)))));
    expect(answers).toEqual(said.map((each) => [each]));
  });

  test("an error in mid-stream arrives with its details, after what was said before", async () => {
    const texts: unknown[] = [];
    const error = await failure(async () => {
      for await (const response of connect().prompt(promptRequest("fail"))) texts.push(response);
    });
    expect(texts).toHaveLength(1);
    expect(error.message).toContain('Füll – 満 – "%".');
    if (error.reason) expect(error).toMatchObject({ reason: "QUEUE_FULL", retryAfterMs: 1500 });
    else expect(error.code).toBe(Code.ResourceExhausted);
  });

  test("a deadline ends a call at both ends", async () => {
    const late = [
      await failure(() => connect().cancelPrompt({ attemptId: "waits" }, { timeoutMs: 50 })),
      await failure(() => collect(connect().prompt(promptRequest("waits"), { timeoutMs: 50 }))),
    ];
    for (const error of late)
      expect(error.reason ?? error.code).toBeOneOf(["DEADLINE_EXCEEDED", Code.DeadlineExceeded]);
  });

  test("a cancel and a consumer that stops end the handler", async () => {
    const before = seen.ended;
    const controller = new AbortController();
    const error = await failure(async () => {
      for await (const _response of connect().prompt(promptRequest("waits"), { signal: controller.signal }))
        controller.abort();
    });
    expect(error.reason ?? error.code).toBeOneOf(["CANCELLED", Code.Canceled]);
    await until("the handler ended", () => seen.ended === before + 1);
  });

  test("a call that is cancelled before it begins does not begin", async () => {
    const error = await failure(() => connect().getHealth({}, { signal: AbortSignal.abort() }));
    expect(error.reason ?? error.code).toBeOneOf(["CANCELLED", Code.Canceled]);
  });

  test("a message over the server's limit is refused", async () => {
    const error = await failure(() =>
      collect(connect().prompt(promptRequest("echo", "x".repeat(messageBytesMax + 1)))),
    );
    // Our client gives no reason of the contract for it: the peer gave none.
    expect(error.reason ?? error.code).toBeOneOf(["INVALID_ARGUMENT", "WORKER_UNREACHABLE", Code.ResourceExhausted]);
  });
});

describe.each(pairs.slice(0, 2))("%s: flow control", (_, connect) => {
  test("a consumer that takes nothing makes the server wait, and holds nobody else up", async () => {
    const before = seen.ended;
    const flood = connect().prompt(promptRequest("flood"))[Symbol.asyncIterator]();
    await flood.next();
    let last = -1;
    await until("the server waits", () => {
      const still = seen.produced === last;
      last = seen.produced;
      return still && last > 0;
    });
    // What fits into windows and buffers, and no more: far below what it would be if it were gathered.
    expect(last * 60_000).toBeLessThan(32 << 20);
    expect(await collect(connect().prompt(promptRequest("echo", bigText)))).toEqual([bigText]);
    await flood.return?.();
    await until("the handler ended", () => seen.ended === before + 1);
  });

  test("a consumer that breaks off cancels", async () => {
    const before = seen.ended;
    for await (const _response of connect().prompt(promptRequest("waits"))) break;
    await until("the handler ended", () => seen.ended === before + 1);
  });
});

describe("a client of a broken server", () => {
  const answer = writeEnvelope(0, toBinary(PromptResponseSchema, create(PromptResponseSchema, { outputTokens: 7n })));
  const head = { ":status": 200, "content-type": "application/connect+proto" };
  const hostile = Buffer.alloc(5);
  hostile.writeUInt32BE(0xffff_ffff, 1);

  const faults: [string, (stream: ServerHttp2Stream) => void][] = [
    ["no end of the stream", (stream) => (stream.respond(head), stream.end(answer))],
    ["half an envelope", (stream) => (stream.respond(head), stream.end(answer.subarray(0, 6)))],
    ["a length of four gigabytes", (stream) => (stream.respond(head), stream.write(hostile))],
    ["a compressed message", (stream) => (stream.respond(head), stream.write(writeEnvelope(1, Buffer.from("x"))))],
    [
      "bytes that are no message",
      (stream) => (stream.respond(head), stream.write(writeEnvelope(0, Buffer.from([0xff, 0xff, 0xff])))),
    ],
    ["an end that is no JSON", (stream) => (stream.respond(head), stream.end(writeEnvelope(2, Buffer.from("{"))))],
    [
      "a page of HTML",
      (stream) => (stream.respond({ ":status": 502, "content-type": "text/html" }), stream.end("<html>")),
    ],
    [
      "an HTML page with status 200",
      (stream) => (stream.respond({ ":status": 200, "content-type": "text/html" }), stream.end("<html>")),
    ],
    ["a reset", (stream) => (stream.respond(head), stream.close(constants.NGHTTP2_INTERNAL_ERROR))],
    ["a cancel", (stream) => (stream.respond(head), stream.close(constants.NGHTTP2_CANCEL))],
    ["a refused stream", (stream) => stream.close(constants.NGHTTP2_REFUSED_STREAM)],
    ["a connection that breaks", (stream) => stream.session?.destroy()],
    ["an end without an answer", (stream) => stream.close(constants.NGHTTP2_NO_ERROR)],
  ];

  test.each(faults)("gets a failure: %s", async (__, misbehave) => {
    const server = createServer();
    server.on("stream", (stream) => {
      stream.on("error", () => {});
      misbehave(stream);
    });
    server.on("sessionError", () => {});
    const client = lean(await listen(server));
    const error = await failure(() => collect(client.prompt(promptRequest("echo"))));
    expect(error.reason).toBe("WORKER_UNREACHABLE");
    const unary = await failure(() => client.getHealth({}, { timeoutMs: 500 }));
    expect(unary.reason).toBeOneOf(["WORKER_UNREACHABLE", "DEADLINE_EXCEEDED"]);
  });

  test("takes messages that are cut anywhere, and connects again after a server went away", async () => {
    const random = seededRandom(1);
    const frames = Buffer.concat([answer, answer, writeEnvelope(2, Buffer.from("{}"))]);
    const server = createServer();
    let calls = 0;
    const trickle = async (stream: ServerHttp2Stream) => {
      stream.respond(head);
      for (let at = 0; at < frames.length; ) {
        const to = Math.min(frames.length, at + 1 + Math.floor(random() * 7));
        await new Promise((resolve) => stream.write(frames.subarray(at, to), resolve));
        at = to;
      }
      stream.end();
      calls += 1;
      if (calls % 3 === 0) stream.session?.close();
      if (calls % 5 === 0) stream.once("close", () => stream.session?.destroy());
    };
    server.on("stream", (stream: ServerHttp2Stream) => void trickle(stream));
    const client = lean(await listen(server));
    for (let i = 0; i < 30; i++) {
      const tokens: bigint[] = [];
      for await (const { outputTokens } of client.prompt(promptRequest("echo"))) tokens.push(outputTokens);
      expect(tokens).toEqual([7n, 7n]);
    }
  });
});

test("a server that goes away while nothing runs ends no client, and the next call finds the next server", async () => {
  const open = new Set<ServerHttp2Session>();
  const server = createServer();
  server.on("session", (session) => open.add(session));
  server.on("sessionError", () => {});
  server.on("stream", (stream) => {
    stream.respond({ ":status": 200, "content-type": "application/proto" });
    stream.end();
  });
  const client = lean(await listen(server));
  const leave: ((session: ServerHttp2Session) => void)[] = [
    (session) => session.goaway(constants.NGHTTP2_NO_ERROR),
    (session) => session.close(),
    (session) => session.destroy(),
    (session) => session.destroy(new Error("gone"), constants.NGHTTP2_INTERNAL_ERROR),
  ];
  for (const how of leave) {
    await until("a call succeeds", () => client.getHealth({}));
    for (const session of open) how(session);
    open.clear();
    // The news takes its way to the client, which has no call that could be told.
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await until("a call succeeds", () => client.getHealth({}));
});

describe("a server with a broken client", () => {
  const message = toBinary(PromptRequestSchema, create(PromptRequestSchema, promptRequest("echo")));
  const twice = Buffer.concat([writeEnvelope(0, message), writeEnvelope(0, message)]);
  const hostile = Buffer.alloc(5);
  hostile.writeUInt32BE(0xffff_ffff, 1);

  async function send(
    body: Buffer,
    headers: object = {},
  ): Promise<{ status: number; end: { error?: { code: string } } }> {
    const session = connectHttp2(ours.address);
    try {
      const stream = session.request({
        ":method": "POST",
        ":path": "/drawbridge.v1.WorkerService/Prompt",
        "content-type": "application/connect+proto",
        "connect-protocol-version": "1",
        ...headers,
      });
      let status = 0;
      stream.on("response", (answered) => (status = Number(answered[":status"])));
      stream.end(body);
      const chunks: Buffer[] = [];
      for await (const chunk of stream) chunks.push(chunk as Buffer);
      const last = createEnvelopeReader(messageBytesMax).push(Buffer.concat(chunks)).at(-1);
      return { status, end: JSON.parse(Buffer.from(last?.payload ?? []).toString()) as never };
    } finally {
      session.destroy();
    }
  }

  const bodies: [string, Buffer, string][] = [
    ["nothing", Buffer.alloc(0), "invalid_argument"],
    ["a prefix alone", writeEnvelope(0, message).subarray(0, 5), "invalid_argument"],
    ["half a message", writeEnvelope(0, message).subarray(0, 20), "invalid_argument"],
    ["two messages", twice, "invalid_argument"],
    ["bytes that are no message", writeEnvelope(0, Buffer.from([0xff, 0xff])), "invalid_argument"],
    ["a length of four gigabytes", hostile, "resource_exhausted"],
    ["a compressed message without its encoding", writeEnvelope(1, message), "internal"],
    ["flags of an end", writeEnvelope(2, Buffer.from("{}")), "invalid_argument"],
    ["a message that breaks a rule", writeEnvelope(0, new Uint8Array()), "invalid_argument"],
  ];
  test.each(bodies)("says what is wrong: %s", async (_, body, code) => {
    const { status, end } = await send(body);
    expect(status).toBe(200);
    expect(end.error?.code).toBe(code);
  });

  test("a deadline that is no number is refused", async () => {
    const { end } = await send(writeEnvelope(0, message), { "connect-timeout-ms": "soon" });
    expect(end.error?.code).toBe("invalid_argument");
  });

  test("random bytes get an answer, and the server goes on", async () => {
    const random = seededRandom(7);
    for (let round = 0; round < 100; round++) {
      const body = Buffer.from(Array.from({ length: Math.floor(random() * 60) }, () => Math.floor(random() * 256)));
      expect((await send(body)).end.error).toBeDefined();
    }
    expect(await lean(ours.address).getHealth({})).toMatchObject({ worker: { id: "w" } });
  });
});

describe("envelopes", () => {
  test("are read whole from any cut", () => {
    const random = seededRandom(3);
    for (let round = 0; round < 500; round++) {
      const payloads = Array.from({ length: 1 + Math.floor(random() * 5) }, () =>
        Buffer.alloc(Math.floor(random() * 300), round),
      );
      const bytes = Buffer.concat(payloads.map((payload) => writeEnvelope(0, payload)));
      const reader = createEnvelopeReader(1000);
      const found: Buffer[] = [];
      for (let at = 0; at < bytes.length; ) {
        const to = Math.min(bytes.length, at + 1 + Math.floor(random() * 40));
        for (const { payload } of reader.push(bytes.subarray(at, to))) found.push(Buffer.from(payload));
        at = to;
      }
      expect(found).toEqual(payloads);
      expect(reader.pendingBytes).toBe(0);
    }
  });

  test("over the limit are refused before they are gathered", () => {
    const reader = createEnvelopeReader(10);
    expect(() => reader.push(writeEnvelope(0, Buffer.alloc(11)).subarray(0, 5))).toThrow(ConnectError);
  });
});
