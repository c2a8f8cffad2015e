// An OpenAI-compatible upstream on this machine that is strict about what it is sent and fails as a test says.
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface ReceivedRequest {
  readonly path: string;
  readonly key: string | undefined;
  readonly headers: IncomingMessage["headers"];
  readonly body: Readonly<Record<string, unknown>>;
}

/** What the upstream does with a request. */
export type Behaviour = (call: UpstreamCall) => void | Promise<void>;

export interface UpstreamCall {
  readonly request: ReceivedRequest;
  readonly response: ServerResponse;
  /** Aborted when the connection is gone. */
  readonly gone: AbortSignal;
}

export interface Upstream extends AsyncDisposable {
  /** Ends in /v1. */
  readonly baseUrl: string;
  readonly requests: readonly ReceivedRequest[];
  /** Answers whose reader went away before their end. */
  readonly abandoned: () => number;
  /** What it does from now on. */
  behave: Behaviour;
  /** Closes the port and every connection, as a killed process does. */
  kill(): Promise<void>;
}

/** Provider's headers, which no client of a gateway is to see. */
export const ownHeaders = {
  "x-request-id": "upstream-request",
  "x-ratelimit-remaining-requests": "1",
  "openai-organization": "org-of-the-operator",
  "openai-processing-ms": "99999",
  "set-cookie": "session=upstream",
  server: "upstream",
} as const;

export async function startUpstream(behave: Behaviour = answers({})): Promise<Upstream> {
  const requests: ReceivedRequest[] = [];
  let abandoned = 0;
  const server = createServer((request, response) => {
    const gone = new AbortController();
    response.once("close", () => {
      if (!response.writableFinished) abandoned += 1;
      gone.abort();
    });
    void receive(request).then(
      async (received) => {
        requests.push(received);
        const wrong = wrongWith(received);
        if (wrong !== undefined)
          return fails(400, { message: wrong })({ request: received, response, gone: gone.signal });
        await upstream.behave({ request: received, response, gone: gone.signal });
      },
      () => response.destroy(),
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const upstream: Upstream = {
    baseUrl: `http://127.0.0.1:${port}/v1`,
    requests,
    abandoned: () => abandoned,
    behave,
    kill: () => close(server),
    [Symbol.asyncDispose]: () => close(server),
  };
  return upstream;
}

async function close(server: Server): Promise<void> {
  if (!server.listening) return;
  const closed = once(server, "close");
  server.close();
  server.closeAllConnections();
  await closed;
}

async function receive(request: IncomingMessage): Promise<ReceivedRequest> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  const bytes = Buffer.concat(parts);
  return {
    path: request.url ?? "",
    key: /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1],
    headers: request.headers,
    body: isForm(request)
      ? await formFields(bytes, request.headers["content-type"] ?? "")
      : (JSON.parse(bytes.toString()) as Record<string, unknown>),
  };
}

function isForm({ headers }: Pick<IncomingMessage, "headers">): boolean {
  return headers["content-type"]?.startsWith("multipart/form-data; boundary=") === true;
}

/** Texts as they are, files as their names and contents. */
async function formFields(bytes: Buffer, type: string): Promise<Record<string, unknown>> {
  const form = await new Response(new Uint8Array(bytes), { headers: { "content-type": type } }).formData();
  const fields: Record<string, unknown> = {};
  for (const [name, value] of form) {
    const said = typeof value === "string" ? value : { name: value.name, text: await value.text() };
    fields[name] = name in fields ? [fields[name], said].flat() : said;
  }
  return fields;
}

function wrongWith({ headers, body }: ReceivedRequest): string | undefined {
  if (headers["content-type"] !== "application/json" && !isForm({ headers }))
    return `content-type is ${headers["content-type"]}`;
  if (typeof body["model"] !== "string") return "model is missing";
  if (body["stream_options"] !== undefined && body["stream"] !== true) return "stream_options without stream";
  return undefined;
}

export interface AnswerOptions {
  /** Pieces of the text. Default "Hello", " from", " upstream". */
  readonly words?: readonly string[];
  /** null: it says nothing. */
  readonly usage?: UpstreamUsage | null;
  /** Called before each piece but the first. */
  readonly between?: (call: UpstreamCall, index: number) => Promise<void> | void;
  /** How the body's bytes are cut; default: each event by itself. */
  readonly cut?: (bytes: Buffer) => readonly Buffer[];
}

export interface UpstreamUsage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly cached_tokens?: number;
}

const defaultUsage: UpstreamUsage = { prompt_tokens: 11, completion_tokens: 7 };

/** Answers any route as OpenAI does. */
export function answers(options: AnswerOptions): Behaviour {
  return async (call) => {
    const { path, body } = call.request;
    if (path.endsWith("/embeddings")) return json(call.response, 200, embeddings(body, options));
    if (path.endsWith("/moderations"))
      return json(call.response, 200, { id: "modr-1", model: body["model"], results: [] });
    if (path.endsWith("/audio/speech")) {
      call.response.writeHead(200, { ...ownHeaders, "content-type": "audio/mpeg" });
      return void call.response.end(Buffer.from([0xff, 0xfb, 0x00, 0x80]));
    }
    if (path.endsWith("/audio/transcriptions")) return await transcription(call, options);
    if (path.endsWith("/responses")) return await answerResponse(call, options);
    if (body["stream"] === true) return await streamChunks(call, options);
    json(call.response, 200, completion(call.request, options));
  };
}

function usageOf({ usage = defaultUsage }: AnswerOptions) {
  if (usage === null) return undefined;
  const { prompt_tokens, completion_tokens, cached_tokens } = usage;
  return {
    prompt_tokens,
    completion_tokens,
    total_tokens: prompt_tokens + completion_tokens,
    ...(cached_tokens === undefined ? {} : { prompt_tokens_details: { cached_tokens } }),
  };
}

const defaultWords = ["Hello", " from", " upstream"];

function completion({ path, body }: ReceivedRequest, options: AnswerOptions) {
  const text = (options.words ?? defaultWords).join("");
  const chat = path.endsWith("/chat/completions");
  const content = chat ? { message: { role: "assistant", content: text } } : { text };
  return {
    id: "chatcmpl-upstream",
    object: chat ? "chat.completion" : "text_completion",
    created: 1_700_000_000,
    model: body["model"],
    choices: [{ index: 0, ...content, finish_reason: "stop" }],
    usage: usageOf(options),
    system_fingerprint: "fp_upstream",
  };
}

function embeddings({ model, input }: ReceivedRequest["body"], options: AnswerOptions) {
  const count = Array.isArray(input) ? input.length : 1;
  const data = Array.from({ length: count }, (_, index) => ({
    object: "embedding",
    index,
    embedding: [0.25, -1e-9, 3],
  }));
  return { object: "list", data, model, usage: usageOf(options) && { prompt_tokens: 5, total_tokens: 5 } };
}

async function transcription(call: UpstreamCall, options: AnswerOptions): Promise<void> {
  const { request, response } = call;
  const words = options.words ?? defaultWords;
  const text = words.join("");
  const { prompt_tokens: input_tokens, completion_tokens: output_tokens } = usageOf(options) ?? {};
  const tokens = { type: "tokens", input_tokens, output_tokens };
  const usage = input_tokens === undefined ? { type: "duration", seconds: 3 } : tokens;
  if (request.body["stream"] === "true") {
    const deltas = words.map((delta) => frame({ type: "transcript.text.delta", delta }));
    await stream(call, [...deltas, frame({ type: "transcript.text.done", text, usage })], options);
    return void response.end();
  }
  if (request.body["response_format"] === "text") {
    response.writeHead(200, { ...ownHeaders, "content-type": "text/plain; charset=utf-8" });
    return void response.end(`${text}\n`);
  }
  json(response, 200, { text, usage });
}

async function streamChunks(call: UpstreamCall, options: AnswerOptions): Promise<void> {
  const { request, response, gone } = call;
  const chat = request.path.endsWith("/chat/completions");
  const wantsUsage =
    (request.body["stream_options"] as { include_usage?: boolean } | undefined)?.include_usage === true;
  const head = {
    id: "chatcmpl-upstream",
    object: chat ? "chat.completion.chunk" : "text_completion",
    created: 1_700_000_000,
    model: request.body["model"],
  };
  const usage = wantsUsage ? { usage: null } : {};
  const chunk = (choice: object) =>
    frame({ ...head, choices: [{ index: 0, finish_reason: null, ...choice }], ...usage });
  const frames = [
    ...(chat ? [chunk({ delta: { role: "assistant", content: "" } })] : []),
    ...(options.words ?? defaultWords).map((word) => chunk(chat ? { delta: { content: word } } : { text: word })),
    chunk(chat ? { delta: {}, finish_reason: "stop" } : { text: "", finish_reason: "stop" }),
    ...(wantsUsage && usageOf(options) ? [frame({ ...head, choices: [], usage: usageOf(options) })] : []),
    "data: [DONE]\n\n",
  ];
  await stream(call, frames, options);
  if (!gone.aborted) response.end();
}

async function stream(call: UpstreamCall, frames: readonly string[], { between, cut }: AnswerOptions): Promise<void> {
  const { response, gone } = call;
  response.writeHead(200, { ...ownHeaders, "content-type": "text/event-stream; charset=utf-8" });
  if (cut) {
    for (const part of cut(Buffer.from(frames.join("")))) response.write(part);
    return;
  }
  for (const [index, each] of frames.entries()) {
    if (index > 0) await between?.(call, index);
    if (gone.aborted) return;
    // On its way before the next one, and before whatever a test does in between.
    await new Promise((resolve) => response.write(each, resolve));
  }
}

async function answerResponse(call: UpstreamCall, options: AnswerOptions): Promise<void> {
  const { body } = call.request;
  const text = (options.words ?? defaultWords).join("");
  const usage = usageOf(options);
  const response = {
    id: "resp_upstream",
    object: "response",
    status: "completed",
    model: body["model"],
    output: [{ type: "message", role: "assistant", content: [{ type: "output_text", text, annotations: [] }] }],
    usage: usage && {
      input_tokens: usage.prompt_tokens,
      output_tokens: usage.completion_tokens,
      total_tokens: usage.total_tokens,
    },
  };
  if (body["stream"] !== true) return json(call.response, 200, response);
  const events = [
    { type: "response.created", response: { ...response, status: "in_progress", output: [], usage: null } },
    ...(options.words ?? defaultWords).map((delta) => ({ type: "response.output_text.delta", delta, output_index: 0 })),
    { type: "response.completed", response },
  ];
  await stream(
    call,
    events.map((event, index) => `event: ${event.type}\n${frame({ ...event, sequence_number: index })}`),
    options,
  );
  if (!call.gone.aborted) call.response.end();
}

export function frame(value: object): string {
  return `data: ${JSON.stringify(value)}\n\n`;
}

function json(response: ServerResponse, status: number, body: object, headers: object = {}): void {
  response.writeHead(status, { ...ownHeaders, ...headers, "content-type": "application/json" });
  response.end(JSON.stringify(body));
}

// ---- Failures ------------------------------------------------------------------------------------------------------------------------

export function fails(status: number, error: object = {}, headers: Readonly<Record<string, string>> = {}): Behaviour {
  return ({ response }) =>
    json(
      response,
      status,
      { error: { message: `The upstream says ${status}.`, type: "server_error", param: null, code: null, ...error } },
      headers,
    );
}

/** Says some words, then the connection breaks. */
export const breaksAfterContent: Behaviour = answers({
  between: ({ response }, index) => {
    if (index === 3) response.destroy();
  },
});

/** Sends the role and nothing more before the connection breaks. */
export const breaksBeforeContent: Behaviour = (call) =>
  call.request.body["stream"] === true
    ? answers({ between: ({ response }) => void response.destroy() })(call)
    : void call.response.destroy();

/** Says some words, then nothing more. */
export function stallsAfterContent(words: readonly string[] = ["one", " two", " three"]): Behaviour {
  return answers({ words, between: ({ gone }, index) => (index === 3 ? goneOf(gone) : undefined) });
}

/** Takes the request and says nothing. */
export const neverAnswers: Behaviour = ({ gone }) => goneOf(gone);

export const answersWrongJson: Behaviour = ({ response }) => {
  response.writeHead(200, { "content-type": "application/json" });
  response.end("<html>not what was asked for</html>");
};

/** Sends on to another place. */
export function redirects(location: string): Behaviour {
  return ({ response }) => void response.writeHead(307, { location }).end();
}

function goneOf(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
