// A client that reads slowly slows its upstream down: what waits is in sockets, and not in the gateway.
import { request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { type Behaviour, frame, startUpstream } from "../../support/upstream.ts";
import { apiKey } from "../gateway/harness.ts";
import { channelTo, ledgerOf, startWithChannels, upstreamModel } from "./given.ts";

const frames = 600;
const frameChars = 64 << 10;

test("a client that reads nothing stops the upstream, and gets all of it when it reads on", async () => {
  let sent = 0;
  const head = { id: "c", object: "chat.completion.chunk", created: 1, model: "own-name" };
  const much: Behaviour = async ({ response, gone }) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    const content = "x ".repeat(frameChars / 2);
    const each = frame({ ...head, choices: [{ index: 0, delta: { content }, finish_reason: null }] });
    while (sent < frames && !gone.aborted) {
      await new Promise((resolve) => response.write(each, resolve));
      sent += 1;
    }
    const usage = { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 };
    response.write(frame({ ...head, choices: [{ index: 0, delta: {}, finish_reason: "stop" }] }));
    response.end(`${frame({ ...head, choices: [], usage })}data: [DONE]\n\n`);
  };
  await using upstream = await startUpstream(much);
  await using gateway = await startWithChannels([channelTo(upstream)]);

  const body = JSON.stringify({ model: upstreamModel, stream: true, messages: [{ role: "user", content: "Hi" }] });
  const headers = { authorization: `Bearer ${apiKey}`, "content-type": "application/json" };
  const asking = request(`${gateway.url}/v1/chat/completions`, { method: "POST", headers });
  asking.end(body);
  const response = await new Promise<import("node:http").IncomingMessage>((resolve, reject) => {
    asking.once("response", resolve).once("error", reject);
  });
  response.pause();
  // Until nothing more is taken: the same count in a row.
  for (let before = -1, same = 0; same < 10; ) {
    await sleep(50);
    same = sent === before && sent > 0 ? same + 1 : 0;
    before = sent;
  }
  const held = sent * frameChars;
  // Two connections' socket buffers on the loopback; the answer as a whole is more than twice as much.
  expect(held).toBeLessThan(16 << 20);

  let received = 0;
  let end = "";
  for await (const part of response) {
    received += (part as Buffer).length;
    end = (end + String(part)).slice(-200);
  }
  expect(received).toBeGreaterThan(frames * frameChars);
  expect(end).toMatch(/data: \[DONE\]\n\n$/);
  expect((await ledgerOf(gateway, 1))[0]?.usage).toMatchObject({ inputTokens: 1n, outputTokens: 1n });
});
