// Every server of Drawbridge speaks gRPC, gRPC-Web and Connect on one port, over HTTP/1.1 and HTTP/2, with the same errors, deadlines,
// cancellation, health and reflection. Proven here with a Connect client, with @grpc/grpc-js, and with buf.
import { execFile } from "node:child_process";
import { request as httpRequest } from "node:http";
import { connect } from "node:net";
import { promisify } from "node:util";
import { create } from "@bufbuild/protobuf";
import { type Client, Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import {
  credentials,
  type GrpcObject,
  loadPackageDefinition,
  Metadata,
  type ServiceClientConstructor,
  status,
} from "@grpc/grpc-js";
import { load } from "@grpc/proto-loader";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Role } from "#gen/drawbridge/v1/prompt";
import { End, OutcomeSchema } from "#gen/drawbridge/v1/usage";
import { PromptFailureSchema, WorkerService } from "#gen/drawbridge/v1/worker_service";
import { ErrorInfoSchema, RetryInfoSchema } from "#gen/google/rpc/error_details";
import { Health, HealthCheckResponse_ServingStatus } from "#gen/grpc/health/v1/health";
import { DrawbridgeError, errorDetail } from "../../services/kit/errors.ts";
import { silentLog } from "../../services/kit/log.ts";
import { createDialer } from "../../services/kit/rpc/client.ts";
import { mount, type RpcServer, startRpcServer } from "../../services/kit/rpc/server.ts";

const token = "contract-test-token";
const accountId = "a";
const outcome = create(OutcomeSchema, { attemptId: "t", requestId: "r", accountId, end: End.FAILED_BEFORE_CONTENT });

let server: RpcServer;
/** What became of the last endless prompt. */
let lastCancelled: PromiseWithResolvers<void>;

beforeAll(async () => {
  server = await startRpcServer({
    listen: { host: "127.0.0.1", port: 0 },
    services: [
      mount(WorkerService, {
        getHealth: () => ({ worker: { id: "w", incarnation: "i" } }),
        cancelPrompt: async (_, context) => {
          await new Promise((resolve) => context.signal.addEventListener("abort", resolve));
          throw context.signal.reason;
        },
        drain: () => {
          throw new TypeError("a bug with a secret in it");
        },
        async *prompt(request, context) {
          const text = request.prompt?.model;
          if (text === "fail") {
            throw new DrawbridgeError("QUEUE_FULL", "The queue is full.", {
              retryAfterMs: 1500,
              detail: { desc: PromptFailureSchema, value: create(PromptFailureSchema, { outcome }) },
            });
          }
          yield { events: [{ event: { case: "text", value: { text: "one" } } }] };
          if (text === "endless") {
            await new Promise((resolve) => context.signal.addEventListener("abort", resolve));
            lastCancelled.resolve();
            throw context.signal.reason;
          }
          yield { events: [{ event: { case: "text", value: { text: "two" } } }], outputTokens: 2n };
        },
      }),
    ],
    authorize: ({ header }) => {
      if (header.get("authorization") !== `Bearer ${token}`) {
        throw new DrawbridgeError("UNAUTHENTICATED", "Send the internal token.");
      }
    },
    http: (app) => app.get("/plain", () => "plain"),
    ready: () => true,
    log: silentLog,
  });
});

afterAll(() => server.close(0));

function promptRequest(model: string) {
  return {
    requestId: "r",
    attemptId: "t",
    accountId,
    prompt: { model, messages: [{ role: Role.USER, parts: [{ part: { case: "text" as const, value: "hi" } }] }] },
  };
}

type Protocol = [name: string, transport: () => Transport];

const bearer = (value = token) => [
  (next: (request: { header: Headers }) => Promise<never>) => (request: { header: Headers }) => {
    request.header.set("authorization", `Bearer ${value}`);
    return next(request);
  },
];
const options = (httpVersion: "1.1" | "2", value?: string) =>
  ({ baseUrl: server.address, httpVersion, interceptors: bearer(value) as never }) as const;

const protocols: Protocol[] = [
  ["Connect over HTTP/1.1", () => createConnectTransport(options("1.1"))],
  ["Connect over h2c", () => createConnectTransport(options("2"))],
  ["gRPC over h2c", () => createGrpcTransport(options("2") as never)],
  ["gRPC-Web over HTTP/1.1", () => createGrpcWebTransport(options("1.1"))],
  ["gRPC-Web over h2c", () => createGrpcWebTransport(options("2"))],
];

describe.each(protocols)("%s", (_, transport) => {
  let client: Client<typeof WorkerService>;
  beforeAll(() => {
    client = createClient(WorkerService, transport());
  });

  test("answers a call", async () => {
    const { worker } = await client.getHealth({});
    expect(worker).toMatchObject({ id: "w", incarnation: "i" });
  });

  test("streams", async () => {
    const texts: unknown[] = [];
    for await (const { events } of client.prompt(promptRequest("m"))) texts.push(events[0]?.event.value);
    expect(texts).toMatchObject([{ text: "one" }, { text: "two" }]);
  });

  test("a failed stream carries its reason, its retry hint and its outcome", async () => {
    const error = await failure(async () => {
      for await (const _response of client.prompt(promptRequest("fail")));
    });
    expect(error.code).toBe(Code.ResourceExhausted);
    expect(error.rawMessage).toBe("The queue is full.");
    expect(error.findDetails(ErrorInfoSchema)[0]).toMatchObject({ reason: "QUEUE_FULL", domain: "drawbridge" });
    expect(error.findDetails(RetryInfoSchema)[0]?.retryDelay).toMatchObject({ seconds: 1n, nanos: 500_000_000 });
    expect(error.findDetails(PromptFailureSchema)[0]?.outcome).toMatchObject({ attemptId: "t", accountId });
  });

  test("a request that breaks a field rule is refused with the field's name", async () => {
    const error = await failure(() => client.cancelPrompt({ attemptId: "" }));
    expect(error.code).toBe(Code.InvalidArgument);
    expect(error.rawMessage).toContain("attempt_id");
    expect(error.findDetails(ErrorInfoSchema)[0]?.reason).toBe("INVALID_ARGUMENT");
  });

  test("a bug is an internal error without its text", async () => {
    const error = await failure(() => client.drain({}));
    expect(error.code).toBe(Code.Internal);
    expect(error.rawMessage).toBe("Internal error.");
  });

  test("the caller's deadline ends the call", async () => {
    const error = await failure(() => client.cancelPrompt({ attemptId: "waits" }, { timeoutMs: 100 }));
    expect(error.code).toBe(Code.DeadlineExceeded);
  });

  test("the caller's cancel reaches the handler", async () => {
    lastCancelled = Promise.withResolvers();
    const controller = new AbortController();
    const error = await failure(async () => {
      for await (const _response of client.prompt(promptRequest("endless"), { signal: controller.signal })) {
        controller.abort();
      }
    });
    expect(error.code).toBe(Code.Canceled);
    await lastCancelled.promise;
  });

  test("health needs no token", async () => {
    const { status: serving } = await createClient(Health, transport()).check({ service: WorkerService.typeName });
    expect(serving).toBe(HealthCheckResponse_ServingStatus.SERVING);
  });
});

async function failure(call: () => Promise<unknown>): Promise<ConnectError> {
  try {
    await call();
  } catch (error) {
    return ConnectError.from(error);
  }
  throw new Error("the call should have failed");
}

test("a wrong token is refused on every service but health", async () => {
  const transport = createConnectTransport(options("2", "wrong"));
  const error = await failure(() => createClient(WorkerService, transport).getHealth({}));
  expect(error.code).toBe(Code.Unauthenticated);
  await createClient(Health, transport).check({});
});

describe("@grpc/grpc-js", () => {
  interface GrpcWorkerClient {
    GetHealth: (request: object, metadata: Metadata, done: (error: Error | null, response: object) => void) => void;
    Prompt: (request: object, metadata: Metadata, options?: object) => AsyncIterable<object> & { cancel: () => void };
    close: () => void;
  }
  let client: GrpcWorkerClient;
  const metadata = new Metadata();
  metadata.set("authorization", `Bearer ${token}`);

  beforeAll(async () => {
    const definition = await load("drawbridge/v1/worker_service.proto", { includeDirs: ["proto"], keepCase: true });
    const drawbridge = loadPackageDefinition(definition)["drawbridge"] as GrpcObject;
    const Worker = (drawbridge["v1"] as GrpcObject)["WorkerService"] as ServiceClientConstructor;
    client = new Worker(new URL(server.address).host, credentials.createInsecure()) as unknown as GrpcWorkerClient;
  });
  afterAll(() => client.close());

  const prompt = (model: string) => ({
    request_id: "r",
    attempt_id: "t",
    account_id: accountId,
    prompt: { model, messages: [{ role: "ROLE_USER", parts: [{ text: "hi" }] }] },
  });

  test("calls and streams", async () => {
    const health = await promisify((done: (error: Error | null, response: object) => void) =>
      client.GetHealth({}, metadata, done),
    )();
    expect(health).toMatchObject({ worker: { id: "w" } });
    const texts: object[] = [];
    for await (const response of client.Prompt(prompt("m"), metadata)) texts.push(response);
    expect(texts).toMatchObject([{ events: [{ text: { text: "one" } }] }, { events: [{ text: { text: "two" } }] }]);
  });

  test("sees the status code of a typed error", async () => {
    const reading = async () => {
      for await (const _response of client.Prompt(prompt("fail"), metadata));
    };
    await expect(reading()).rejects.toMatchObject({ code: status.RESOURCE_EXHAUSTED });
  });

  test("deadline and cancel reach the handler", async () => {
    lastCancelled = Promise.withResolvers();
    const reading = async () => {
      for await (const _response of client.Prompt(prompt("endless"), metadata, { deadline: Date.now() + 200 }));
    };
    await expect(reading()).rejects.toMatchObject({ code: status.DEADLINE_EXCEEDED });
    await lastCancelled.promise;
  });
});

describe("the typed client between our own processes", () => {
  test("gives domain errors with their details, and cancels what its consumer stops reading", async () => {
    await using dialer = createDialer({ token });
    const client = dialer.client(WorkerService, server.address, { unreachable: "WORKER_UNREACHABLE" });
    const failed = client.prompt(promptRequest("fail"))[Symbol.asyncIterator]().next();
    const error = await failed.catch((reason: unknown) => reason);
    expect(error).toMatchObject({ reason: "QUEUE_FULL", retryAfterMs: 1500 });
    expect(errorDetail(error, PromptFailureSchema)?.outcome?.attemptId).toBe("t");

    lastCancelled = Promise.withResolvers();
    for await (const _response of client.prompt(promptRequest("endless"))) break;
    await lastCancelled.promise;
  });

  test("a server that is not there is unreachable", async () => {
    await using dialer = createDialer({ token });
    const client = dialer.client(WorkerService, "http://127.0.0.1:1", { unreachable: "WORKER_UNREACHABLE" });
    await expect(client.getHealth({})).rejects.toMatchObject({ reason: "WORKER_UNREACHABLE" });
  });
});

test("buf finds the services by reflection and calls one", async () => {
  const run = promisify(execFile);
  const header = ["--header", `Authorization: Bearer ${token}`, "--reflect-header", `Authorization: Bearer ${token}`];
  const listed = await run("node_modules/.bin/buf", [
    "curl",
    "--http2-prior-knowledge",
    ...header,
    "--list-methods",
    server.address,
  ]);
  expect(listed.stdout).toContain("drawbridge.v1.WorkerService/Prompt");
  const url = `${server.address}/drawbridge.v1.WorkerService/GetHealth`;
  const called = await run("node_modules/.bin/buf", [
    "curl",
    "--protocol",
    "grpc",
    "--http2-prior-knowledge",
    ...header,
    url,
  ]);
  expect(JSON.parse(called.stdout)).toMatchObject({ worker: { id: "w" } });
});

test("a watch ends when its server closes, and holds it open for no grace", async () => {
  const closing = await startRpcServer({
    listen: { host: "127.0.0.1", port: 0 },
    services: [],
    authorize: () => {},
    ready: () => true,
    log: silentLog,
  });
  const transport = createGrpcTransport({ baseUrl: closing.address });
  const watching = (async () => {
    for await (const _response of createClient(Health, transport).watch({})) void closing.close(3_600_000);
  })();
  expect((await failure(() => watching)).code).toBe(Code.Unavailable);
  await closing.close(3_600_000);
});

test("a method that a port does not have is said to be unimplemented", async () => {
  const transport = createConnectTransport(options("2"));
  const error = await failure(() => createClient(WorkerService, transport).listSlots({}));
  expect(error.code).toBe(Code.Unimplemented);
  expect(error.rawMessage).toBe("ListSlots is not served on this port.");
});

describe("one port", () => {
  test("serves plain routes over HTTP/1.1, byte by byte too", async () => {
    const { hostname, port } = new URL(server.address);
    const answered = await new Promise<string>((resolve, reject) => {
      const socket = connect({ host: hostname, port: Number(port) });
      let text = "";
      socket
        .setEncoding("utf8")
        .on("data", (chunk) => (text += chunk))
        .on("end", () => resolve(text))
        .on("error", reject);
      void writeSlowly(socket, "GET /plain HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    });
    expect(answered).toMatch(/^HTTP\/1\.1 200 OK[^]*plain$/);
  });

  test.each(["/nothing", "/%zz"])("an unknown path is a 404: %s", async (path) => {
    const statusCode = await new Promise((resolve, reject) => {
      httpRequest(`${server.address}${path}`, (response) => resolve(response.resume().statusCode))
        .on("error", reject)
        .end();
    });
    expect(statusCode).toBe(404);
  });
});

async function writeSlowly(socket: import("node:net").Socket, text: string): Promise<void> {
  for (const character of text) {
    socket.write(character);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
