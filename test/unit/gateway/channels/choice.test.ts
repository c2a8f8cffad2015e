// Which channel, with what health, and what the tries come to in the ledger: the parts that decide, by themselves.
import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { ChannelState } from "#gen/drawbridge/v1/channel";
import { End, type Outcome, OutcomeSchema } from "#gen/drawbridge/v1/usage";
import type { Admissions } from "../../../../services/gateway/access/admit.ts";
import { conversationOf } from "../../../../services/gateway/channels/affinity.ts";
import { boundsOf, channelRequest, upstreamBody } from "../../../../services/gateway/channels/body.ts";
import { createHealth } from "../../../../services/gateway/channels/directory/health.ts";
import { choose } from "../../../../services/gateway/channels/select.ts";
import { shareAdmission } from "../../../../services/gateway/channels/shared-admission.ts";
import { statusFailure } from "../../../../services/gateway/channels/upstream/call.ts";
import { seededRandom } from "../../../support/seeded-random.ts";

describe("choose", () => {
  const channel = (id: string, priority: number, weight: number) => ({ id, priority, weight });
  const none = { preferred: undefined, bound: false, random: () => 0 };

  test("nobody of nobody", () => {
    expect(choose([], none)).toBeUndefined();
  });

  test("the highest priority, whatever the weights", () => {
    expect(choose([channel("a", 1, 1_000), channel("b", 2, 1), channel("c", -5, 9)], none)?.id).toBe("b");
  });

  test("among equals by weight; 0 counts as 1", () => {
    const random = seededRandom(7);
    const counts: Record<string, number> = { a: 0, b: 0, c: 0 };
    const channels = [channel("a", 0, 6), channel("b", 0, 3), channel("c", 0, 0)];
    for (let index = 0; index < 20_000; index += 1) {
      const { id } = choose(channels, { preferred: undefined, bound: false, random }) ?? { id: "" };
      counts[id] = (counts[id] ?? 0) + 1;
    }
    expect((counts["a"] ?? 0) / 20_000).toBeCloseTo(0.6, 1);
    expect((counts["b"] ?? 0) / 20_000).toBeCloseTo(0.3, 1);
    expect((counts["c"] ?? 0) / 20_000).toBeCloseTo(0.1, 1);
  });

  test("the one that the conversation knows, but a lower priority only where it is bound to it", () => {
    const channels = [channel("a", 1, 1), channel("b", 1, 1), channel("c", 0, 1)];
    expect(choose(channels, { ...none, preferred: "b" })?.id).toBe("b");
    expect(choose(channels, { ...none, preferred: "c" })?.id).toBe("a");
    expect(choose(channels, { ...none, preferred: "gone" })?.id).toBe("a");
    expect(choose(channels, { ...none, preferred: "c", bound: true })?.id).toBe("c");
  });
});

describe("a conversation", () => {
  const user = (content: string) => ({ role: "user", content });
  const turn = [user("q1"), { role: "assistant", content: "a1" }, user("q2")];
  const of = (messages: object[], userId = "u") => conversationOf(userId, { model: "m", messages });

  test("is known by how it began, and goes on once it has an answer", () => {
    expect(of(turn)).toEqual({ key: of([user("q1")]).key, continues: true, bound: false });
    expect(of([user("q1")]).continues).toBe(false);
    expect(of(turn).key).not.toBe(of([user("other"), ...turn.slice(1)]).key);
    expect(of(turn).key).not.toBe(of(turn, "somebody else").key);
  });

  test("is what the client calls it, or what the response before it was", () => {
    expect(conversationOf("u", { model: "m", prompt_cache_key: "k" })).toMatchObject({ continues: true, bound: false });
    expect(conversationOf("u", { model: "m", previous_response_id: "r" })).toMatchObject({
      continues: true,
      bound: true,
    });
    expect(conversationOf("u", { model: "m", input: "x" })).toEqual({ key: undefined, continues: false, bound: false });
  });
});

describe("health", () => {
  const policy = { callsMin: 4, failureRate: 0.5, windowMs: 1_000, openMs: 100, openMaxMs: 400 };
  const fail = (health: ReturnType<typeof createHealth>, times: number, now: number) => {
    for (let index = 0; index < times; index += 1) health.begin(now)?.("failure", now);
  };

  test("opens at its share of failures, and not with fewer calls", () => {
    const health = createHealth(policy, () => 1);
    fail(health, 3, 0);
    expect(health.condition(0).state).toBe(ChannelState.READY);
    fail(health, 1, 0);
    expect(health.condition(0)).toMatchObject({ state: ChannelState.OPEN, until: 100 });
    expect(health.begin(50)).toBeUndefined();
  });

  test("forgets what is older than its window, and what says nothing", () => {
    const health = createHealth(policy, () => 1);
    fail(health, 3, 0);
    for (let index = 0; index < 10; index += 1) health.begin(500)?.("neutral", 500);
    fail(health, 3, 2_000);
    expect(health.condition(2_000).state).toBe(ChannelState.READY);
  });

  test("lets one probe through at a time, and closes or opens for longer by it", () => {
    const health = createHealth(policy, () => 1);
    fail(health, 4, 0);
    const probe = health.begin(100);
    expect([probe === undefined, health.admits(100)]).toEqual([false, false]);
    probe?.("failure", 110);
    expect(health.condition(110)).toMatchObject({ state: ChannelState.OPEN, until: 310 });
    health.begin(310)?.("neutral", 310);
    expect(health.admits(310)).toBe(true);
    health.begin(310)?.("success", 320);
    expect(health.condition(320).state).toBe(ChannelState.READY);
  });

  test("hears nothing of calls that began before it opened", () => {
    const health = createHealth(policy, () => 1);
    const late = health.begin(0);
    fail(health, 4, 0);
    health.begin(100)?.("success", 100);
    late?.("failure", 101);
    fail(health, 2, 102);
    expect(health.condition(102).state).toBe(ChannelState.READY);
  });
});

describe("what a status means", () => {
  const of = (status: number, headers = {}, error: object = {}) =>
    statusFailure(status, { headers, text: JSON.stringify({ error: { message: "no", ...error } }), now: 1_000_000 });

  test.each([
    [401, "AGENT_UNAUTHENTICATED", { disable: "the upstream refused it (401)" }],
    [403, "AGENT_UNAUTHENTICATED", { rest: "the upstream does not serve it (403)", forMs: Number.POSITIVE_INFINITY }],
    [429, "AGENT_RATE_LIMITED", { rest: "the upstream asked to slow down", forMs: undefined }],
    [500, "AGENT_ERROR", undefined],
    [307, "AGENT_ERROR", undefined],
  ])("%i", (status, reason, key) => {
    expect(of(status)).toMatchObject({ error: { reason }, key, refusal: undefined, movesOn: true });
  });

  test.each([
    [{ "retry-after": "7" }, 7_000],
    [{ "retry-after": "0.5" }, 500],
    [{ "retry-after": "7", "retry-after-ms": "250" }, 250],
    [{ "retry-after": new Date(1_060_000).toUTCString() }, 60_000],
    [{ "retry-after": "999999999" }, 3_600_000],
    [{ "retry-after": "soon" }, undefined],
  ])("%j is a wait of %s ms", (headers, forMs) => {
    expect(of(429, headers).key).toMatchObject({ forMs });
  });

  test("a used-up plan rests for long", () => {
    expect(of(429, { "retry-after": "1" }, { code: "insufficient_quota" })).toMatchObject({
      error: { reason: "AGENT_USAGE_LIMIT" },
      key: { forMs: Number.POSITIVE_INFINITY },
    });
  });
});

describe("a body", () => {
  test("passes as it came, but for name, usage and limits", () => {
    const body = {
      model: "m",
      messages: [],
      max_tokens: 999,
      stream: true,
      stream_options: { x: 1 },
      vendor: { y: [2] },
    };
    const sent = JSON.parse(upstreamBody(channelRequest("chat/completions", body), "own", 100) as string) as unknown;
    expect(sent).toEqual({ ...body, model: "own", max_tokens: 100, stream_options: { x: 1, include_usage: true } });
  });

  test.each([
    ["chat/completions", { n: 3, max_tokens: 10 }, 30],
    ["chat/completions", { max_completion_tokens: 5_000 }, 1_000],
    ["chat/completions", {}, 0],
    ["completions", { best_of: 4, max_tokens: 10 }, 40],
    ["embeddings", { max_tokens: 10 }, undefined],
  ] as const)("of %s with %j is held for %s output tokens", (route, fields, output) => {
    expect(boundsOf(channelRequest(route, { model: "m", ...fields }), 1_000).output).toBe(output);
  });

  test.each([
    ["no object", "x", undefined],
    ["no model", {}, "model"],
    ["a model that is no text", { model: 7 }, "model"],
    ["a wrong limit", { model: "m", max_tokens: -1 }, "max_tokens"],
    ["too many answers", { model: "m", n: 1_000 }, "n"],
    ["a wrong stream", { model: "m", stream: "yes" }, "stream"],
  ])("%s is refused by name", (_name, body, param) => {
    expect(() => channelRequest("chat/completions", body)).toThrow(expect.objectContaining({ param }));
  });
});

describe("an admission that tries share", () => {
  const outcome = (end: End, content = false): Outcome => create(OutcomeSchema, { end, content });

  function given() {
    const settled: (Outcome | undefined)[] = [];
    let admitted = 0;
    const admissions = {
      limits: async () => ({}) as never,
      priority: async () => 0 as never,
      admit: async () => {
        admitted += 1;
        return {
          limits: {},
          priority: 0,
          settle: async (each: Outcome | undefined) => {
            settled.push(each);
            return undefined;
          },
          abandon: () => {},
        } as never;
      },
    } satisfies Admissions;
    return { shared: shareAdmission(admissions), settled, admitted: () => admitted };
  }

  test("is one, and is settled once, by the try that came to something", async () => {
    const { shared, settled, admitted } = given();
    const first = await shared.admit({} as never);
    await first.settle(outcome(End.FAILED_BEFORE_CONTENT));
    expect([shared.over, settled.length]).toEqual([false, 0]);
    const second = await shared.admit({} as never);
    await second.settle(outcome(End.FINISHED, true));
    expect([shared.over, admitted()]).toEqual([true, 1]);
    expect(await shared.finish()).toBeUndefined();
    expect(settled.map((each) => each?.end)).toEqual([End.FINISHED]);
  });

  test("is settled with the last failure where every try failed, and not at all where none was let in", async () => {
    const { shared, settled } = given();
    expect(await shared.finish()).toBeUndefined();
    const admission = await shared.admit({} as never);
    await admission.settle(outcome(End.FAILED_BEFORE_CONTENT));
    await admission.settle(undefined);
    await shared.finish();
    await shared.finish();
    expect(settled.map((each) => each?.end)).toEqual([End.FAILED_BEFORE_CONTENT]);
  });

  test.each([End.CANCELLED, End.TIMEOUT, End.FAILED_AFTER_CONTENT])("ends with end %i", async (end) => {
    const { shared } = given();
    await (await shared.admit({} as never)).settle(outcome(end));
    expect(shared.over).toBe(true);
  });
});
