// The money of requests: granted = available + held + spent at every moment, and one entry for each request, however it ends.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { StopReason } from "#gen/drawbridge/v1/prompt";
import { End, type UsageEntry } from "#gen/drawbridge/v1/usage";
import { DrawbridgeError } from "../../../services/kit/errors.ts";
import type { State } from "../../../services/state/state.ts";
import { allUsage, books } from "../../conformance/state/given.ts";
import { openTier } from "../../support/fleet.ts";
import { until } from "../../support/until.ts";
import {
  aborted,
  adminOf,
  failure,
  finished,
  type GatewayUnderTest,
  givenUser,
  model,
  outcomeOf,
  says,
  saysUntilCancelled,
  started,
  startGatewayUnderTest,
  text,
} from "./harness.ts";

let gateway: GatewayUnderTest;
/** Thrown by the store's settlements while it is set. */
let away: DrawbridgeError | undefined;

/** The store, whose settlements can be made to fail. */
function flaky(state: State): State {
  return {
    ...state,
    ledger: {
      ...state.ledger,
      async settle(request) {
        if (away) throw away;
        return state.ledger.settle(request);
      },
    },
  };
}

beforeEach(async () => {
  away = undefined;
  gateway = await startGatewayUnderTest({
    wrapState: flaky,
    prices: { [model]: { input: 1, output: 100, cached_input: 0.5 } },
    tiers: { half: { ...openTier, ratio: 0.5 }, three: { ...openTier, concurrency: 3 } },
    settings: { hold_ttl: "1s", sweep_interval: "100ms", default_output_tokens: 100 },
  });
});

afterEach(async () => {
  await gateway[Symbol.asyncDispose]();
});

const path = "/v1/chat/completions";
const messages = [{ role: "user" as const, content: "Hello?" }];
const body = (fields: object = {}) => ({ model, messages, ...fields });
const post = (apiKey: string, fields: object = {}, headers: Record<string, string> = {}) =>
  gateway.request(path, { apiKey, body: body(fields), headers });

const quota = async (userId: string) => books(await gateway.state.ledger.quota(userId));

/** Waits until nothing of the user is held, and looks that the ledger adds up. */
async function settled(userId: string): Promise<UsageEntry[]> {
  await until(`nothing of ${userId} is held`, async () => (await quota(userId)).held === 0);
  const entries = await allUsage(gateway.state, { userId });
  expect(entries.reduce((sum, { costMicros }) => sum + Number(costMicros), 0)).toBe((await quota(userId)).spent);
  return entries;
}

async function onlyEntry(userId: string): Promise<UsageEntry> {
  const entries = await settled(userId);
  expect(entries).toHaveLength(1);
  return entries[0] as UsageEntry;
}

describe("a request pays", () => {
  it.each([false, true])("its usage, when it has finished (stream: %s)", async (stream) => {
    const key = await givenUser(gateway, "ada");
    await (await post(key, { stream })).text();
    // 10 × $1 and 5 × $100 per million.
    expect(await onlyEntry("ada")).toMatchObject({
      model,
      end: End.FINISHED,
      costMicros: 510n,
      accountId: "a-1",
      usage: { inputTokens: 10n, outputTokens: 5n },
    });
  });

  it("less for cached input, and what its tier pays", async () => {
    const key = await givenUser(gateway, "ada", { tier: "half" });
    gateway.engine.script = async function* cached({ request }) {
      yield text("Hello");
      yield finished(request, StopReason.END_TURN, { input: 10, cached: 4, output: 1 });
    };
    await (await post(key)).text();
    // (6 × 1 + 4 × 0.5 + 1 × 100) × 0.5
    expect((await onlyEntry("ada")).costMicros).toBe(54n);
  });

  it("the price of the moment when it was admitted", async () => {
    const key = await givenUser(gateway, "ada");
    const finish = Promise.withResolvers<void>();
    gateway.engine.script = async function* waits({ request }) {
      yield text("Hello");
      await finish.promise;
      yield finished(request);
    };
    const answer = post(key, { stream: true });
    await until("it runs", async () => (await quota("ada")).held > 0);
    await adminOf(gateway.app).setPrice({
      price: { model, inputMicrosPerMillion: 9_000_000n, outputMicrosPerMillion: 9_000_000_000n },
    });
    finish.resolve();
    await (await answer).text();
    expect((await onlyEntry("ada")).costMicros).toBe(510n);
  });

  it("what was produced, when its client left a stream", async () => {
    const key = await givenUser(gateway, "ada");
    gateway.engine.script = saysUntilCancelled;
    const stream = await gateway.openai({ apiKey: key }).chat.completions.create({ ...body(), stream: true });
    for await (const chunk of stream) if (chunk.choices[0]?.delta.content) break;
    expect(await onlyEntry("ada")).toMatchObject({ end: End.CANCELLED, costMicros: 310n });
    expect(gateway.engine.cancels).toHaveLength(1);
  });

  it.each([false, true])("what was produced, when its client left before any of it (stream: %s)", async (stream) => {
    const key = await givenUser(gateway, "ada");
    gateway.engine.script = async function* hesitates({ request, cancelled }) {
      yield started();
      await aborted(cancelled);
      yield finished(request, StopReason.CANCELLED, { end: End.CANCELLED, output: 0 });
    };
    const leaving = new AbortController();
    const asked = gateway.request(path, { apiKey: key, body: body({ stream }), signal: leaving.signal });
    const refused = expect(asked).rejects.toThrow();
    await until("the prompt runs", () => gateway.engine.prompts.length === 1);
    leaving.abort();
    await refused;
    expect(await onlyEntry("ada")).toMatchObject({ end: End.CANCELLED, costMicros: 10n });
    expect(gateway.engine.cancels).toHaveLength(1);
  });

  it.each([
    ["a failure", "AGENT_CRASHED", End.FAILED_AFTER_CONTENT],
    ["a deadline", "DEADLINE_EXCEEDED", End.TIMEOUT],
  ] as const)("what was produced, when %s ended it", async (_, reason, end) => {
    const key = await givenUser(gateway, "ada");
    gateway.engine.script = async function* breaks({ request }) {
      yield text("Hel");
      throw failure(request, reason, { end, content: true, usage: true, output: 2 });
    };
    for (const stream of [true, false]) await (await post(key, { stream })).text();
    const entries = await settled("ada");
    expect(entries.map((entry) => [entry.end, entry.costMicros])).toEqual([
      [end, 210n],
      [end, 210n],
    ]);
  });

  it("what was seen, when its worker fell silent", async () => {
    const key = await givenUser(gateway, "ada");
    gateway.engine.script = async function* vanishes() {
      yield started();
      yield text("Hel", 1);
      yield text("lo", 4);
    };
    await (await post(key, { stream: true })).text();
    expect(await onlyEntry("ada")).toMatchObject({ end: End.FAILED_AFTER_CONTENT, costMicros: 407n });
  });

  it.each(["AGENT_CRASHED", "DEADLINE_EXCEEDED", "CONTEXT_LENGTH_EXCEEDED"] as const)(
    "nothing, when it failed before content: %s",
    async (reason) => {
      const key = await givenUser(gateway, "ada");
      // oxlint-disable-next-line require-yield -- a worker that fails before it says anything
      gateway.engine.script = async function* fails({ request }) {
        throw failure(request, reason);
      };
      await (await post(key)).text();
      expect(await onlyEntry("ada")).toMatchObject({ end: End.FAILED_BEFORE_CONTENT, costMicros: 0n });
    },
  );

  it("nothing, when no account took it", async () => {
    const key = await givenUser(gateway, "ada");
    gateway.engine.refusal = new DrawbridgeError("NO_CAPACITY", "Busy.");
    await (await post(key)).text();
    expect(await onlyEntry("ada")).toMatchObject({ costMicros: 0n, accountId: "" });
  });

  it("nothing, and leaves no trace, when it was refused", async () => {
    const key = await givenUser(gateway, "ada");
    for (const fields of [{ n: 2 }, { model: "unheard-of" }]) await (await post(key, fields)).text();
    expect(await settled("ada")).toEqual([]);
  });

  it("more than its hold where it used more, and never more than there is", async () => {
    const key = await givenUser(gateway, "ada", { quotaMicros: 1_000 });
    gateway.engine.script = async function* exceeds({ request }) {
      yield text("Hello");
      yield finished(request, StopReason.END_TURN, { output: 50 });
    };
    await (await post(key, { max_tokens: 1 })).text();
    expect((await onlyEntry("ada")).costMicros).toBe(1_000n);
    expect(await quota("ada")).toMatchObject({ available: 0, spent: 1_000 });
  });

  it("once, for an answer that is too long to be given whole", async () => {
    const key = await givenUser(gateway, "ada");
    gateway.engine.script = async function* endless({ request, cancelled }) {
      const part = "x".repeat(1 << 20);
      for (let said = 0; said < 100 && !cancelled.aborted; said++) yield text(part, said + 1);
      yield finished(request, StopReason.CANCELLED, { end: End.CANCELLED, output: 34 });
    };
    const response = await post(key);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { param: "stream", code: "answer_too_long" } });
    expect(await onlyEntry("ada")).toMatchObject({ end: End.CANCELLED, costMicros: 3_410n });
    expect(gateway.engine.cancels).toHaveLength(1);
  });
});

describe("a hold", () => {
  it("covers the input and the output that was asked for, or the default", async () => {
    const key = await givenUser(gateway, "ada");
    gateway.engine.script = saysUntilCancelled;
    const heldBy = async (fields: object) => {
      const stream = await gateway.openai({ apiKey: key }).chat.completions.create({ ...body(fields), stream: true });
      const { held } = await quota("ada");
      stream.controller.abort();
      await settled("ada");
      return held;
    };
    const limited = await heldBy({ max_tokens: 10 });
    const open = await heldBy({});
    expect(open - limited).toBe(90 * 100);
    expect(limited).toBeGreaterThan(10 * 100);
  });

  it("lives as long as its request, which may be longer than the hold's own time", async () => {
    const key = await givenUser(gateway, "ada");
    gateway.engine.script = saysUntilCancelled;
    const stream = await gateway.openai({ apiKey: key }).chat.completions.create({ ...body(), stream: true });
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    expect((await quota("ada")).held).toBeGreaterThan(0);
    stream.controller.abort();
    expect(await onlyEntry("ada")).toMatchObject({ end: End.CANCELLED, costMicros: 310n });
  });

  it("of a gateway that died is settled by another from the recorded outcome, or released", async () => {
    const key = await givenUser(gateway, "ada");
    const { key: record } = await adminOf(gateway.app).createApiKey({ userId: "ada" });
    const [tier] = await gateway.state.access.listTiers();
    if (!tier || !record) throw new Error("There is no tier or no key.");
    const now = Date.now();
    const price = (await gateway.state.access.listPrices())[0];
    const left = {
      userId: "ada",
      keyId: record.id,
      model,
      holdMicros: 1_000,
      tokens: 10,
      tier,
      price: price && {
        ...price,
        inputMicrosPerMillion: price.inputMicrosPerMillion * 1_000n,
        outputMicrosPerMillion: price.outputMicrosPerMillion * 1_000n,
      },
    };
    for (const requestId of ["req_known", "req_unknown"]) {
      await gateway.state.ledger.admit({ ...left, requestId, expiresAt: now + 300, now });
    }
    const request = { requestId: "req_known", attemptId: "att_1", accountId: "a-1" } as Parameters<typeof outcomeOf>[0];
    await gateway.state.outcomes.record(outcomeOf(request, { output: 1 }), 60_000, now);
    const entries = await settled("ada");
    expect(Object.fromEntries(entries.map((entry) => [entry.requestId, [entry.end, entry.costMicros]]))).toEqual({
      req_known: [End.FINISHED, 110n],
      req_unknown: [End.EXPIRED, 0n],
    });
    expect((await post(key)).status).toBe(200);
  });
});

describe("a store that is away", () => {
  it("when a request settles gets its settlement later, once, at the right price", async () => {
    const key = await givenUser(gateway, "ada");
    away = new DrawbridgeError("STATE_UNAVAILABLE", "The store is away.");
    const answer = await (await post(key)).json();
    // The client has its answer.
    expect(answer).toMatchObject({ choices: [{ message: { content: "Hello" } }] });
    expect((await quota("ada")).held).toBeGreaterThan(0);
    // Longer than the hold would live by itself.
    await new Promise((resolve) => setTimeout(resolve, 1_300));
    away = undefined;
    expect(await onlyEntry("ada")).toMatchObject({ end: End.FINISHED, costMicros: 510n });
  });
});

describe("limits under a race", () => {
  it("let in as many at the same time as the tier allows", async () => {
    const key = await givenUser(gateway, "ada", { tier: "three" });
    gateway.engine.script = saysUntilCancelled;
    const leaving = new AbortController();
    const asked = Array.from({ length: 20 }, () =>
      gateway.request(path, { apiKey: key, body: body({ stream: true }), signal: leaving.signal }),
    );
    const statuses = (await Promise.all(asked)).map(({ status }) => status);
    expect(statuses.filter((status) => status === 200)).toHaveLength(3);
    expect(statuses.filter((status) => status === 429)).toHaveLength(17);
    leaving.abort();
    expect(await settled("ada")).toHaveLength(3);
  });

  it("spend no more than there is, and never hold more", async () => {
    const key = await givenUser(gateway, "ada", { quotaMicros: 5_000 });
    let watching = true;
    const watch = (async () => {
      while (watching) await quota("ada").then(() => new Promise((resolve) => setImmediate(resolve)));
    })();
    const answers = await Promise.all(
      Array.from({ length: 30 }, () =>
        post(key, { max_tokens: 5 }).then(async (response) => (await response.text(), response.status)),
      ),
    );
    watching = false;
    await watch;
    const entries = await settled("ada");
    expect(new Set(answers)).toEqual(new Set([200, 429]));
    expect(entries).toHaveLength(answers.filter((status) => status === 200).length);
    const { available, spent } = await quota("ada");
    expect(spent).toBe(entries.length * 510);
    expect(available).toBe(5_000 - spent);
  });
});

describe("an Idempotency-Key", () => {
  const key1 = { "idempotency-key": "order-1" };
  const conflict = { error: { type: "invalid_request_error", code: "idempotency_conflict", param: null } };

  it("bills one answer once, and gives it again", async () => {
    const key = await givenUser(gateway, "ada");
    const first = await post(key, { temperature: 0 }, key1);
    const second = await post(key, { temperature: 0 }, key1);
    expect([first.status, second.status]).toEqual([200, 200]);
    expect(await second.text()).toBe(await first.text());
    expect([first, second].map(({ headers }) => headers.get("idempotent-replayed"))).toEqual([null, "true"]);
    expect(second.headers.get("x-request-id")).not.toBe(first.headers.get("x-request-id"));
    expect(second.headers.get("x-drawbridge-ignored-parameters")).toBe("temperature");
    expect(gateway.engine.prompts).toHaveLength(1);
    await onlyEntry("ada");
  });

  it("is refused with another body, also where the answer is kept", async () => {
    const key = await givenUser(gateway, "ada");
    await (await post(key, {}, key1)).text();
    const response = await post(key, { max_tokens: 3 }, key1);
    expect(response.status).toBe(409);
    expect(response.headers.get("x-should-retry")).toBe("false");
    expect(await response.json()).toMatchObject(conflict);
    await onlyEntry("ada");
  });

  it("waits for the first request", async () => {
    const key = await givenUser(gateway, "ada");
    const finish = Promise.withResolvers<void>();
    gateway.engine.script = async function* waits({ request }) {
      yield text("Hello");
      await finish.promise;
      yield finished(request);
    };
    const first = post(key, {}, key1);
    await until("it runs", () => gateway.engine.prompts.length === 1);
    const second = await post(key, {}, key1);
    expect(second.status).toBe(409);
    // An SDK tries this one again, and then gets the answer.
    expect(second.headers.get("x-should-retry")).toBeNull();
    expect(Number(second.headers.get("retry-after-ms"))).toBeGreaterThan(0);
    finish.resolve();
    const answer = await (await first).text();
    expect(await (await post(key, {}, key1)).text()).toBe(answer);
    await onlyEntry("ada");
  });

  it("of many at once is billed once", async () => {
    const key = await givenUser(gateway, "ada");
    const answers = await Promise.all(Array.from({ length: 10 }, () => post(key, {}, key1)));
    expect(new Set(answers.map(({ status }) => status)).has(200)).toBe(true);
    for (const { status } of answers) expect([200, 409]).toContain(status);
    await onlyEntry("ada");
    expect(gateway.engine.prompts).toHaveLength(1);
  });

  it("of a streamed answer is not answered twice", async () => {
    const key = await givenUser(gateway, "ada");
    await (await post(key, { stream: true }, key1)).text();
    const second = await post(key, { stream: true }, key1);
    expect(second.status).toBe(409);
    expect(await second.json()).toMatchObject(conflict);
    await onlyEntry("ada");
  });

  it("is free again after a request that cost nothing", async () => {
    const key = await givenUser(gateway, "ada");
    gateway.engine.refusal = new DrawbridgeError("NO_CAPACITY", "Busy.");
    expect((await post(key, {}, key1)).status).toBe(503);
    gateway.engine.refusal = undefined;
    expect((await post(key, {}, key1)).status).toBe(200);
  });

  it("belongs to its user", async () => {
    const [ada, bob] = [await givenUser(gateway, "ada"), await givenUser(gateway, "bob")];
    gateway.engine.script = says("for the first one");
    await (await post(ada, {}, key1)).text();
    gateway.engine.script = says("for the second one");
    expect(await (await post(bob, {}, key1)).text()).toContain("for the second one");
  });
});
