// A gateway on a real socket with the embedded store, and an engine whose answers a test scripts: scheduler and workers are service objects of
// this process, called as `up` calls them.
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import OpenAI from "openai";
import { AccessService } from "#gen/drawbridge/v1/access_service";
import type { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import { FinishedSchema, type Prompt, StopReason } from "#gen/drawbridge/v1/prompt";
import { SchedulerService } from "#gen/drawbridge/v1/scheduler_service";
import { End, type Outcome, OutcomeSchema, UsageSchema, UsageSource } from "#gen/drawbridge/v1/usage";
import {
  PromptFailureSchema,
  type PromptRequest,
  type PromptResponse,
  PromptResponseSchema,
  WorkerService,
} from "#gen/drawbridge/v1/worker_service";
import { createGatewayApp, type GatewayApp } from "../../../services/gateway/app.ts";
import { ensureAccess } from "../../../services/gateway/access/bootstrap.ts";
import { channelsSetting, gatewaySettings, pricesSetting, tiersSetting } from "../../../services/gateway/config.ts";
import { systemClock } from "../../../services/kit/clock.ts";
import { DrawbridgeError, type Reason } from "../../../services/kit/errors.ts";
import { type Log, silentLog } from "../../../services/kit/log.ts";
import { systemRandom } from "../../../services/kit/random.ts";
import { localClient } from "../../../services/kit/rpc/local.ts";
import { startRpcServer } from "../../../services/kit/rpc/server.ts";
import { openState } from "../../../services/state/open.ts";
import type { State } from "../../../services/state/state.ts";
import { openTier } from "../../support/fleet.ts";

export const model = "test/model-1";
export const apiKey = "sk-test-0123456789abcdef";
export const adminKey = "sk-admin-test-0123456789abcdef";

/** What a worker does with one prompt. `cancelled` is aborted by CancelPrompt. */
export type Script = (call: WorkerCall) => AsyncGenerator<PromptResponse, void, undefined>;

export interface WorkerCall {
  readonly request: PromptRequest;
  readonly prompt: Prompt;
  readonly cancelled: AbortSignal;
  /** Aborted when the call is over, whoever ended it. */
  readonly signal: AbortSignal;
}

export interface Engine {
  /** What workers do from now on. */
  script: Script;
  /** Thrown by Acquire instead of a lease. */
  refusal: DrawbridgeError | undefined;
  /** Models that the scheduler knows, and whether they are ready. */
  models: { name: string; ready: boolean }[];
  readonly prompts: Prompt[];
  readonly reports: Outcome[];
  /** Attempts that were asked to end. */
  readonly cancels: string[];
}

export interface GatewayUnderTestOptions {
  readonly prices?: Readonly<Record<string, object>>;
  readonly tiers?: Readonly<Record<string, object>>;
  /** As in the configuration file. */
  readonly channels?: readonly object[];
  /** Where channels find their keys. */
  readonly environment?: Readonly<Record<string, string>>;
  /** As in the configuration file. */
  readonly settings?: Readonly<Record<string, unknown>>;
  /** Stands between the gateway and the store. */
  readonly wrapState?: (state: State) => State;
  readonly log?: Log;
}

export interface GatewayUnderTest extends AsyncDisposable {
  readonly app: GatewayApp;
  readonly state: State;
  readonly engine: Engine;
  readonly url: string;
  readonly port: number;
  openai(options?: SdkOptions): OpenAI;
  request(path: string, options?: RequestOptions): Promise<Response>;
  /** Everything that the server sends on one connection until it closes it. */
  raw(text: string): Promise<string>;
}

export interface SdkOptions {
  readonly apiKey?: string;
  /** Default 0. */
  readonly maxRetries?: number;
  /** Called for every request that the SDK sends. */
  readonly onRequest?: () => void;
}

export interface RequestOptions {
  readonly method?: string;
  /** A body that is no string is sent as JSON. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** null: none. */
  readonly apiKey?: string | null;
  readonly signal?: AbortSignal;
}

export async function startGatewayUnderTest(options: GatewayUnderTestOptions = {}): Promise<GatewayUnderTest> {
  await using starting = new AsyncDisposableStack();
  const directory = await mkdtemp(join(tmpdir(), "drawbridge-gateway-"));
  starting.defer(() => rm(directory, { recursive: true, force: true }));
  const store = starting.use(await openState("sqlite::memory:", { log: silentLog }));
  const state = options.wrapState?.(store) ?? store;
  await ensureAccess({
    state: store,
    settings: { apiKey, adminKey, keyPepper: "" },
    now: Date.now(),
  });
  const engine = createEngine();
  const worker = workerClient(engine);
  const app = starting.use(
    createGatewayApp({
      state,
      clock: systemClock,
      random: systemRandom,
      log: options.log ?? silentLog,
      config: {
        ...gatewaySettings.parse(options.settings ?? {}),
        prices: pricesSetting.parse(options.prices ?? { [model]: { input: 1, output: 100 } }),
        tiers: tiersSetting.parse({ default: openTier, ...options.tiers }),
        channels: channelsSetting.parse(options.channels as never),
        keyPepper: "",
      },
      scheduler: localClient(SchedulerService, schedulerOf(engine)),
      worker: () => worker,
      environment: options.environment ?? {},
      directory,
    }),
  );
  const server = starting.use(
    await startRpcServer({
      listen: { host: "127.0.0.1", port: 0 },
      services: [],
      authorize: () => {},
      http: (http) => app.routes(http),
      ready: () => true,
      log: silentLog,
    }),
  );
  await app.start();
  const resources = starting.move();
  const port = Number(new URL(server.address).port);
  return {
    app,
    state: store,
    engine,
    url: server.address,
    port,
    openai: ({ apiKey: key = apiKey, maxRetries = 0, onRequest } = {}) =>
      new OpenAI({
        apiKey: key,
        baseURL: `${server.address}/v1`,
        maxRetries,
        fetch: (input, init) => {
          onRequest?.();
          return fetch(input, init);
        },
      }),
    request: (path, request) => send(`${server.address}${path}`, request),
    raw: (text) => exchangeRaw(port, text),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}

/** A user of their own, with a key. The quota is in millionths of a dollar. */
export async function givenUser(
  { app }: GatewayUnderTest,
  id: string,
  { quotaMicros = 10_000_000, tier = "default" }: { quotaMicros?: number; tier?: string } = {},
): Promise<string> {
  const access = adminOf(app);
  await access.createUser({ id, tier, quotaMicros: BigInt(quotaMicros) });
  return (await access.createApiKey({ userId: id })).secret;
}

export function adminOf(app: GatewayApp) {
  return localClient(AccessService, app.access);
}

// ---- What workers say ----------------------------------------------------------------------------------------------------------------

type Events = NonNullable<MessageInitShape<typeof PromptResponseSchema>["events"]>;

export function batch(events: Events, outputTokens = 0): PromptResponse {
  return create(PromptResponseSchema, { events, outputTokens: BigInt(outputTokens) });
}

export const started = () => batch([{ event: { case: "started", value: { inputTokensEstimate: 7n } } }]);
export const text = (value: string, tokens = 1) => batch([{ event: { case: "text", value: { text: value } } }], tokens);

export interface EndFields {
  readonly end?: End;
  readonly input?: number;
  readonly cached?: number;
  readonly output?: number;
  readonly content?: boolean;
  readonly reason?: ErrorReason;
  /** Absent: nothing is known to have been used. */
  readonly usage?: boolean;
  readonly stopSequence?: string;
}

export function outcomeOf(request: PromptRequest, fields: EndFields = {}): Outcome {
  const { end = End.FINISHED, input = 10, cached = 0, output = 5, content = true } = fields;
  const usage = create(UsageSchema, {
    inputTokens: BigInt(input),
    cachedInputTokens: BigInt(cached),
    outputTokens: BigInt(output),
    source: UsageSource.REPORTED,
  });
  return create(OutcomeSchema, {
    attemptId: request.attemptId,
    requestId: request.requestId,
    accountId: request.accountId,
    workerId: "w-1",
    end,
    content,
    ...(fields.usage === false ? {} : { usage }),
    ...(fields.reason === undefined ? {} : { reason: fields.reason }),
  });
}

export function finished(request: PromptRequest, stopReason: StopReason = StopReason.END_TURN, fields: EndFields = {}) {
  const value = create(FinishedSchema, {
    stopReason,
    outcome: outcomeOf(request, fields),
    stopSequence: fields.stopSequence,
  });
  return batch([{ event: { case: "finished", value } }], fields.output ?? 5);
}

/** What a worker throws for a prompt that it had taken. */
export function failure(request: PromptRequest, reason: Reason, fields: EndFields = {}): DrawbridgeError {
  const value = create(PromptFailureSchema, {
    outcome: outcomeOf(request, { end: End.FAILED_BEFORE_CONTENT, content: false, usage: false, ...fields }),
  });
  return new DrawbridgeError(reason, `A worker said: ${reason}.`, { detail: { desc: PromptFailureSchema, value } });
}

/** Says these texts, then finishes. */
export function says(...texts: string[]): Script {
  return async function* answer({ request }) {
    yield started();
    for (const each of texts) yield text(each);
    yield finished(request);
  };
}

/** Says something, then nothing more until it is cancelled; what was said by then is 3 tokens. */
export const saysUntilCancelled: Script = async function* answer({ request, cancelled, signal }) {
  yield started();
  yield text("word ", 3);
  await aborted(cancelled, signal);
  yield finished(request, StopReason.CANCELLED, { end: End.CANCELLED, output: 3 });
};

export function aborted(...signals: AbortSignal[]): Promise<void> {
  const any = AbortSignal.any(signals);
  if (any.aborted) return Promise.resolve();
  return new Promise((resolve) => any.addEventListener("abort", () => resolve(), { once: true }));
}

// ---- The engine ----------------------------------------------------------------------------------------------------------------------

function createEngine(): Engine {
  return {
    script: says("Hello"),
    refusal: undefined,
    models: [{ name: model, ready: true }],
    prompts: [],
    reports: [],
    cancels: [],
  };
}

function schedulerOf(engine: Engine): ServiceImpl<typeof SchedulerService> {
  const unused = () => {
    throw new DrawbridgeError("NOT_SUPPORTED", "The gateway does not call this.");
  };
  return {
    async acquire({ requestId, attemptId }) {
      if (engine.refusal) throw engine.refusal;
      return {
        lease: {
          attemptId,
          requestId,
          accountId: "a-1",
          workerId: "w-1",
          workerAddress: "local",
          millicredits: 1_000n,
        },
      };
    },
    async report({ outcome }) {
      if (outcome) engine.reports.push(outcome);
      return { settled: true };
    },
    release: () => ({ released: false }),
    dispatch: unused,
    explain: unused,
    listModels: () => ({
      models: engine.models.map(({ name, ready }) => ({
        name,
        ready,
        accounts: 1,
        createdAt: timestampFromMs(1_700_000_000_000),
      })),
    }),
  };
}

function workerClient(engine: Engine) {
  const running = new Map<string, AbortController>();
  return localClient(WorkerService, {
    async *prompt(request, context) {
      const cancelled = new AbortController();
      running.set(request.attemptId, cancelled);
      if (request.prompt) engine.prompts.push(request.prompt);
      try {
        const { prompt } = request;
        if (!prompt) throw new DrawbridgeError("INVALID_ARGUMENT", "prompt: a value is required.");
        yield* engine.script({ request, prompt, cancelled: cancelled.signal, signal: context.signal });
      } finally {
        running.delete(request.attemptId);
      }
    },
    async cancelPrompt({ attemptId }) {
      const found = running.get(attemptId);
      if (found) engine.cancels.push(attemptId);
      found?.abort();
      return { found: found !== undefined };
    },
    getHealth: () => ({}),
    listSlots: () => ({}),
    drain: () => ({}),
  });
}

// ---- Clients -------------------------------------------------------------------------------------------------------------------------

async function send(url: string, { method, body, headers, apiKey: key = apiKey, signal }: RequestOptions = {}) {
  return fetch(url, {
    method: method ?? (body === undefined ? "GET" : "POST"),
    headers: {
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...(key === null ? {} : { authorization: `Bearer ${key}` }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    ...(signal ? { signal } : {}),
  });
}

function exchangeRaw(port: number, request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => socket.write(request));
    let received = "";
    socket.setEncoding("utf8");
    socket.on("data", (part: string) => {
      received += part;
    });
    socket.on("error", reject);
    socket.on("close", () => resolve(received));
  });
}
