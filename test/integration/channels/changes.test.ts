// Channels that change while requests run, on every gateway; keys that rotate; conversations; limits of a channel.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { type ChannelSpec, ChannelSpecSchema, ChannelState } from "#gen/drawbridge/v1/channel";
import { applyChannels } from "../../../services/gateway/channels/manage/apply.ts";
import { createDirectory } from "../../../services/gateway/channels/directory/directory.ts";
import { systemClock } from "../../../services/kit/clock.ts";
import { DrawbridgeError } from "../../../services/kit/errors.ts";
import { silentLog } from "../../../services/kit/log.ts";
import { openState } from "../../../services/state/open.ts";
import { until } from "../../support/until.ts";
import { answers, fails, stallsAfterContent, startUpstream } from "../../support/upstream.ts";
import { adminOf, model } from "../gateway/harness.ts";
import { allOf, channelTo, ledgerOf, startWithChannels, upstreamModel } from "./given.ts";

const messages = [{ role: "user" as const, content: "Hi" }];

function spec(id: string, fields: MessageInitShape<typeof ChannelSpecSchema> = {}): ChannelSpec {
  return create(ChannelSpecSchema, {
    id,
    kind: "openai",
    baseUrl: "http://127.0.0.1:9/v1",
    models: { m: "m" },
    ...fields,
  });
}

async function temporaryFolder() {
  const folder = await mkdtemp(join(tmpdir(), "drawbridge-channels-"));
  return { folder, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) };
}

test("a change reaches every gateway, and one that has not changed keeps what it remembers", async () => {
  await using place = await temporaryFolder();
  await using stack = new AsyncDisposableStack();
  const url = `sqlite:${join(place.folder, "state.db")}`;
  const open = async () => {
    const state = stack.use(await openState(url, { log: silentLog }));
    const directory = stack.use(
      createDirectory({
        channels: state.channels,
        environment: {},
        clock: systemClock,
        random: () => 0.5,
        log: silentLog,
        // Without a hint nothing would be seen before the test ends.
        resyncMs: 3_600_000,
      }),
    );
    await directory.start();
    return { state, directory };
  };
  const [one, other] = [await open(), await open()];
  await one.state.channels.create(spec("a"), "api", 1);
  await until("both serve it", () =>
    [one, other].every(({ directory }) => directory.serving("m", "embeddings").length === 1),
  );
  const [before] = other.directory.list();
  await one.state.channels.create(spec("b", { models: { n: "n" } }), "api", 1);
  await until("the other one serves both", () => other.directory.models().size === 2);
  expect(other.directory.list()[0]).toBe(before);
  await one.state.channels.setDisabled("a", true);
  await until("it takes nothing", () => other.directory.status("a")?.state === ChannelState.DISABLED);
  expect([...other.directory.models().keys()]).toEqual(["n"]);
  await one.state.channels.remove("b");
  await until("it is gone", () => other.directory.serving("n", "embeddings").length === 0);
});

test("the file's channels come back with a start, without those that it has no more; commands' own stay", async () => {
  await using state = await openState("sqlite::memory:", { log: silentLog });
  const { channels } = state;
  const ids = async () => (await channels.list()).map(({ id, managedBy }) => `${id} ${managedBy}`);
  await applyChannels(channels, [spec("a"), spec("b")], systemClock);
  await channels.create(spec("c"), "api", 1);
  await channels.setDisabled("a", true);
  await channels.update(spec("a", { priority: 9 }), "api", 0);
  await applyChannels(channels, [spec("a")], systemClock);
  expect(await ids()).toEqual(["a file", "c api"]);
  expect(await channels.get("a")).toMatchObject({ priority: 0, disabled: true });
});

test("requests on a channel that is deleted finish; new ones find it gone", async () => {
  await using upstream = await startUpstream();
  let release: () => void = () => {};
  const released = new Promise<void>((resolve) => (release = resolve));
  upstream.behave = answers({ between: (_call, index) => (index === 3 ? released : undefined) });
  await using gateway = await startWithChannels([channelTo(upstream)]);
  const stream = await gateway.openai().chat.completions.create({ model: upstreamModel, messages, stream: true });
  const chunks: string[] = [];
  for await (const { choices } of stream) {
    chunks.push(choices[0]?.delta.content ?? "");
    if (chunks.at(-1) !== " from") continue;
    await adminOf(gateway.app).deleteChannel({ id: "up" });
    const refused = await gateway.request("/v1/chat/completions", { body: { model: upstreamModel, messages } });
    expect(refused.status).toBe(404);
    release();
  }
  expect(chunks.join("")).toBe("Hello from upstream");
  await ledgerOf(gateway, 1);
});

test("a rotated key file is used from the next refresh on, and a refused key comes back with it", async () => {
  await using place = await temporaryFolder();
  const file = join(place.folder, "key");
  await writeFile(file, "sk-old\n");
  await using upstream = await startUpstream();
  const { behave } = upstream;
  upstream.behave = (call) => {
    if (call.request.key === "sk-new") return behave(call);
    call.response.writeHead(401).end("{}");
  };
  const channel = { ...channelTo(upstream), api_keys: [{ from_file: file }] };
  await using gateway = await startWithChannels([channel], { settings: { channel_refresh: "50ms" } });
  const ask = () => gateway.request("/v1/chat/completions", { body: { model: upstreamModel, messages } });
  expect((await ask()).status).toBe(502);
  expect((await ask()).status).toBe(503);
  expect(upstream.requests).toHaveLength(1);
  await writeFile(file, "sk-new\n");
  await until("the new key answers", async () => (await ask()).ok);
});

test("a conversation stays with its channel and key while it can, and spills over where it cannot", async () => {
  await using one = await startUpstream();
  await using two = await startUpstream();
  await using gateway = await startWithChannels([
    channelTo(one, { id: "one", keys: ["KEY_A", "KEY_B"] }),
    channelTo(two, { id: "two", keys: ["KEY_A", "KEY_B"] }),
  ]);
  const sdk = gateway.openai();
  const askedAt = (count: number) => [one, two].find(({ requests }) => requests.length === count);
  await sdk.chat.completions.create({ model: upstreamModel, messages });
  const home = askedAt(1);
  const turn = { role: "assistant" as const, content: "Hello from upstream" };
  for (let index = 1; index <= 12; index += 1) {
    const more = Array.from({ length: index }, () => [turn, { role: "user" as const, content: "And?" }]).flat();
    await sdk.chat.completions.create({ model: upstreamModel, messages: [...messages, ...more] });
  }
  expect(askedAt(13)).toBe(home);
  expect(new Set(home?.requests.map(({ key }) => key)).size).toBe(1);
  await adminOf(gateway.app).disableChannel({ id: home === one ? "one" : "two" });
  await sdk.chat.completions.create({ model: upstreamModel, messages: [...messages, turn, ...messages] });
  expect(askedAt(1)).toBeDefined();
});

test("a stored response goes on where it was made, whatever the priorities", async () => {
  await using one = await startUpstream();
  await using two = await startUpstream();
  await using gateway = await startWithChannels([
    channelTo(one, { id: "one", priority: 1 }),
    channelTo(two, { id: "two", priority: 0 }),
  ]);
  const sdk = gateway.openai();
  await adminOf(gateway.app).disableChannel({ id: "one" });
  const first = await sdk.responses.create({ model: upstreamModel, input: "Hi" });
  await adminOf(gateway.app).enableChannel({ id: "one" });
  await sdk.responses.create({ model: upstreamModel, input: "And?", previous_response_id: first.id });
  expect([one.requests.length, two.requests.length]).toEqual([0, 2]);
});

test("what the fleet has stored goes on at the fleet, and nowhere else", async () => {
  await using upstream = await startUpstream();
  await using gateway = await startWithChannels([channelTo(upstream, { priority: 1 })]);
  const { engine } = gateway;
  const { disableChannel, enableChannel } = adminOf(gateway.app);
  const sdk = gateway.openai();
  for (const stream of [false, true]) {
    const ask = async (fields: object) =>
      stream
        ? await sdk.responses.stream({ model, ...fields }).finalResponse()
        : await sdk.responses.create({ model, ...fields });
    await disableChannel({ id: "up" });
    const { id } = await ask({ input: "Hi" });
    await enableChannel({ id: "up" });
    const second = await ask({ input: "And?", previous_response_id: id });
    expect(second.output_text).toBe("Hello");
    expect(engine.prompts.at(-1)?.messages).toHaveLength(3);
    engine.refusal = new DrawbridgeError("NO_CAPACITY", "Busy.", { retryAfterMs: 1_000 });
    await expect(ask({ input: "And?", previous_response_id: id })).rejects.toMatchObject({ status: 503 });
    engine.refusal = undefined;
  }
  expect(upstream.requests).toHaveLength(0);
  await sdk.responses.create({ model, input: "Hi" });
  expect(upstream.requests).toHaveLength(1);
});

test("what an upstream has stored is not asked of others while its own channel is busy", async () => {
  await using one = await startUpstream();
  await using two = await startUpstream();
  await using gateway = await startWithChannels([
    channelTo(one, { id: "one", priority: 1 }),
    channelTo(two, { id: "two", priority: 0 }),
  ]);
  const sdk = gateway.openai();
  const first = await sdk.responses.create({ model, input: "Hi" });
  one.behave = fails(429, {}, { "retry-after": "5" });
  const next = { model, input: "And?", previous_response_id: first.id };
  // First it says so itself; then it rests.
  for (let index = 0; index < 2; index += 1) {
    await expect(sdk.responses.create(next)).rejects.toMatchObject({ status: 503 });
  }
  expect([one.requests.length, two.requests.length, gateway.engine.prompts.length]).toEqual([2, 0, 0]);
});

test("a channel takes no more at the same time than it may; the others take the rest", async () => {
  await using one = await startUpstream(stallsAfterContent());
  await using two = await startUpstream();
  await using gateway = await startWithChannels([
    channelTo(one, { id: "one", priority: 5, concurrency: 2 }),
    channelTo(two, { id: "two" }),
  ]);
  const body = { model: upstreamModel, messages, stream: true as const };
  const leaving = new AbortController();
  const options = { signal: leaving.signal };
  const streams = await Promise.all([1, 2].map(() => gateway.openai().chat.completions.create(body, options)));
  const answered = await allOf(await gateway.openai().chat.completions.create(body));
  expect(answered.length).toBeGreaterThan(0);
  expect([one.requests.length, two.requests.length]).toEqual([2, 1]);
  leaving.abort();
  await Promise.allSettled(streams.map((stream) => allOf(stream)));
  await ledgerOf(gateway, 3);
  const { channels } = await adminOf(gateway.app).listChannels({});
  expect(channels.map(({ status }) => status?.inFlight)).toEqual([0n, 0n, 0n]);
});
