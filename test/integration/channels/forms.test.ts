// Forms with files on their way to upstream channels: the official SDK and requests by hand against a real gateway and real upstreams.
import { toFile } from "openai";
import { expect, test } from "vitest";
import { End, UsageSource } from "#gen/drawbridge/v1/usage";
import { answers, type AnswerOptions, fails, startUpstream } from "../../support/upstream.ts";
import { apiKey, model } from "../gateway/harness.ts";
import { allOf, channelTo, ledgerOf, startWithChannels, upstreamModel } from "./given.ts";

const path = "/v1/audio/transcriptions";

async function given(options: AnswerOptions = {}, settings: object = {}) {
  const stack = new AsyncDisposableStack();
  const upstream = stack.use(await startUpstream(answers(options)));
  const second = stack.use(await startUpstream(answers(options)));
  const channels = [channelTo(upstream, { priority: 10 }), channelTo(second, { id: "second", keys: ["KEY_B"] })];
  const gateway = stack.use(await startWithChannels(channels, { settings: { ...settings } }));
  const send = (form: FormData, headers: Readonly<Record<string, string>> = {}, to = path) =>
    fetch(`${gateway.url}${to}`, {
      method: "POST",
      headers: { authorization: `Bearer ${apiKey}`, ...headers },
      body: form,
    });
  return { upstream, second, gateway, send, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

/** The file before the model, as the SDK sends it too. */
function formOf(fields: Readonly<Record<string, string>> = {}, sound = "a sound"): FormData {
  const form = new FormData();
  form.append("file", new Blob([sound]), "café.wav");
  for (const [name, value] of Object.entries({ model: upstreamModel, ...fields })) form.append(name, value);
  return form;
}

test("a transcription: the file as it came, the model's own name, paid by what the upstream tells", async () => {
  await using it = await given();
  const file = await toFile(Buffer.from("a sound"), "sound.wav");
  const answer = await it.gateway.openai().audio.transcriptions.create({ file, model: upstreamModel, language: "en" });
  expect(answer.text).toBe("Hello from upstream");
  expect(it.upstream.requests[0]).toMatchObject({
    path,
    key: "sk-upstream-a",
    body: { file: { name: "sound.wav", text: "a sound" }, model: "own-name", language: "en" },
  });
  const [entry] = await ledgerOf(it.gateway, 1);
  expect(entry).toMatchObject({ accountId: "channel:up", model: upstreamModel, end: End.FINISHED, costMicros: 711n });
  expect(entry?.usage).toMatchObject({ inputTokens: 11n, outputTokens: 7n, source: UsageSource.REPORTED });
});

test("an answer that is no JSON passes as it is, and is paid by an estimate", async () => {
  await using it = await given();
  const answer = await it.send(formOf({ response_format: "text" }));
  expect(answer.headers.get("content-type")).toBe("text/plain; charset=utf-8");
  expect(answer.headers.has("set-cookie")).toBe(false);
  expect(await answer.text()).toBe("Hello from upstream\n");
  const [entry] = await ledgerOf(it.gateway, 1);
  expect(entry?.usage).toMatchObject({ inputTokens: 766n, outputTokens: 4n, source: UsageSource.ESTIMATED });
});

test("a transcription is streamed, or answered whole by a model that cannot", async () => {
  await using it = await given();
  const file = await toFile(Buffer.from("a sound"), "sound.wav");
  const asked = { file, model: upstreamModel, stream: true } as const;
  const events = await allOf(await it.gateway.openai().audio.transcriptions.create(asked));
  expect(events.map((event) => (event.type === "transcript.text.delta" ? event.delta : event.type))).toEqual([
    "Hello",
    " from",
    " upstream",
    "transcript.text.done",
  ]);
  it.upstream.behave = ({ response }) =>
    void response.writeHead(200, { "content-type": "application/json" }).end('{"text":"all of it"}');
  const whole = await it.send(formOf({ stream: "true" }));
  expect(whole.headers.get("content-type")).toBe("application/json; charset=utf-8");
  expect(await whole.json()).toEqual({ text: "all of it" });
  const entries = await ledgerOf(it.gateway, 2);
  expect(entries.map(({ costMicros, end }) => [costMicros, end])).toEqual([
    // 765 × $1 + 3 × $100 a million, estimated.
    [1_065n, End.FINISHED],
    [711n, End.FINISHED],
  ]);
});

test("images are streamed, each with its own end, and all are paid", async () => {
  await using it = await given();
  const usage = { input_tokens: 10, output_tokens: 5 };
  const sent = ["partial_image", "completed", "completed"].map((what) => ({
    type: `image_generation.${what}`,
    b64_json: "AA==",
    ...(what === "completed" ? { usage } : {}),
  }));
  it.upstream.behave = ({ response }) =>
    void response
      .writeHead(200, { "content-type": "text/event-stream" })
      .end(sent.map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`).join(""));
  const asked = { model: upstreamModel, prompt: "Two", n: 2, stream: true } as const;
  const events = await allOf(await it.gateway.openai().images.generate(asked));
  expect(events).toEqual(sent);
  expect(it.upstream.requests[0]?.body).toEqual({ ...asked, model: "own-name" });
  const [entry] = await ledgerOf(it.gateway, 1);
  expect(entry?.usage).toMatchObject({ inputTokens: 20n, outputTokens: 10n, source: UsageSource.REPORTED });
});

test("a streamed transcription that breaks ends with an error, and what came is paid", async () => {
  await using it = await given({
    between: ({ response }, index) => {
      if (index === 2) response.destroy();
    },
  });
  const answer = await it.send(formOf({ stream: "true" }));
  expect(await answer.text()).toMatch(/"delta":" from"[^]*data: {"error":/);
  const [entry] = await ledgerOf(it.gateway, 1);
  expect(entry).toMatchObject({ end: End.FAILED_AFTER_CONTENT, costMicros: 765n + 200n });
  expect(it.second.requests).toEqual([]);
});

test("the next channel gets all of it where the first one fails", async () => {
  await using it = await given();
  it.upstream.behave = fails(500);
  const answer = await it.send(formOf());
  expect(answer.status).toBe(200);
  expect(it.second.requests[0]?.body).toEqual({ file: { name: "café.wav", text: "a sound" }, model: "own-name" });
  const [entry] = await ledgerOf(it.gateway, 1);
  expect(entry).toMatchObject({ accountId: "channel:second", costMicros: 711n });
});

test("an edit of several images, and a rerank", async () => {
  await using it = await given({ usage: null });
  const image = await Promise.all(["one", "two"].map((text) => toFile(Buffer.from(text), `${text}.png`)));
  await it.gateway.openai().images.edit({ model: upstreamModel, image, prompt: "Join them", n: 2 });
  expect(it.upstream.requests[0]?.body).toMatchObject({
    "image[]": [
      { name: "one.png", text: "one" },
      { name: "two.png", text: "two" },
    ],
    n: "2",
  });
  const body = { model: upstreamModel, query: "Which?", documents: ["this", "that"] };
  expect((await it.gateway.request("/v1/rerank", { body })).status).toBe(200);
  expect(it.upstream.requests[1]).toMatchObject({ path: "/v1/rerank", body: { ...body, model: "own-name" } });
  const entries = await ledgerOf(it.gateway, 2);
  expect(entries[1]?.usage).toMatchObject({ inputTokens: 1532n, source: UsageSource.ESTIMATED });
});

test("a form that cannot be sent on is refused, and costs nothing", async () => {
  await using it = await given({}, { upload_limit: "64KiB" });
  const expectRefusal = async (response: Response, status: number, error: object) => {
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({ error });
  };
  const none = formOf();
  none.delete("model");
  await expectRefusal(await it.send(none), 400, { param: "model", code: "missing_required_parameter" });
  const two = formOf();
  two.append("model", "another");
  await expectRefusal(await it.send(two), 400, { param: "model", code: "invalid_value" });
  await expectRefusal(await it.send(formOf({ stream: "true" }), {}, "/v1/audio/translations"), 400, {
    param: "stream",
    code: "unsupported_parameter",
  });
  await expectRefusal(await it.send(formOf({ n: "1000" })), 400, { param: "n", code: "invalid_value" });
  await expectRefusal(await it.send(formOf({ model: "unheard-of" })), 404, { code: "model_not_found" });
  await expectRefusal(await it.send(formOf({}, "x".repeat(70_000))), 413, { code: "request_too_large" });
  const many = formOf(Object.fromEntries(Array.from({ length: 300 }, (_, index) => [`field-${index}`, ""])));
  await expectRefusal(await it.send(many), 400, { type: "invalid_request_error" });
  await expectRefusal(await it.send(formOf({ model }), {}, "/v1/chat/completions"), 415, {
    code: "unsupported_media_type",
  });
  for (const type of ["multipart/form-data", "multipart/form-data; boundary=other"]) {
    const broken = await it.gateway.request(path, { body: "no form", headers: { "content-type": type } });
    await expectRefusal(broken, 400, { type: "invalid_request_error" });
  }
  expect(it.upstream.requests).toEqual([]);
  await ledgerOf(it.gateway, 0);
});

test("a repeated Idempotency-Key is compared by the file too", async () => {
  await using it = await given();
  const headers = { "idempotency-key": "once" };
  const first = await it.send(formOf(), headers);
  const again = await it.send(formOf(), headers);
  expect(again.headers.get("idempotent-replayed")).toBe("true");
  expect(await again.text()).toBe(await first.text());
  expect((await it.send(formOf({}, "another sound"), headers)).status).toBe(409);
  await ledgerOf(it.gateway, 1);
});
