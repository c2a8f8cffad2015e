// The worked examples of docs/billing.md, executed: prices by the pure functions, holds and settlements by a gateway, budgets by its ledger.
import { readFileSync } from "node:fs";
import { create } from "@bufbuild/protobuf";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { BudgetWindow, type Price, TierSchema } from "#gen/drawbridge/v1/access_service";
import { StopReason } from "#gen/drawbridge/v1/prompt";
import { End } from "#gen/drawbridge/v1/usage";
import { costMicros, frozenPrice } from "../../../services/gateway/access/money.ts";
import { pricesSetting } from "../../../services/gateway/config.ts";
import { admission, givenUser as givenStoredUser, settlement } from "../../conformance/state/given.ts";
import { openTier } from "../../support/fleet.ts";
import { until } from "../../support/until.ts";
import {
  aborted,
  failure,
  finished,
  type GatewayUnderTest,
  givenUser,
  model,
  type Script,
  started,
  startGatewayUnderTest,
  text,
} from "./harness.ts";

const page = readFileSync(new URL("../../../docs/billing.md", import.meta.url), "utf8");

/** The rows of the table behind a mark, as cells without their code marks. */
function examples(name: string): string[][] {
  const [, after = ""] = page.split(`<!-- examples: ${name} -->\n`);
  const lines = after.split("\n\n")[0]?.split("\n") ?? [];
  const rows = lines.slice(2).map((line) =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim().replaceAll("`", "")),
  );
  if (rows.length === 0) throw new Error(`docs/billing.md has no examples of "${name}".`);
  return rows;
}

const price = { input: 3, output: 15 };
const messages = [{ role: "user", content: "Hello, how are you?" }];

let gateway: GatewayUnderTest;
let count = 0;
beforeAll(async () => {
  gateway = await startGatewayUnderTest({
    prices: { [model]: price },
    tiers: { half: { ...openTier, ratio: 0.5 } },
    settings: { default_output_tokens: 100, output_tokens_max: 1_000 },
  });
});
afterAll(() => gateway[Symbol.asyncDispose]());

const post = (apiKey: string, fields: object, signal?: AbortSignal) =>
  gateway.request("/v1/chat/completions", {
    apiKey,
    body: { model, messages, ...fields },
    ...(signal ? { signal } : {}),
  });

describe("the price of a request", () => {
  test.each(examples("cost"))("%s input, %s cached, %s output at %s × %s: %s", (...cells) => {
    const [input = "", cached = "", output = "", text = "", ratio = "", cost] = cells;
    const tier = create(TierSchema, { ratioPermille: BigInt(Math.round(Number(ratio) * 1_000)) });
    const [listed] = (text === "none" ? [] : pricesSetting.parse({ m: parse(text) })) as [Price?];
    const tokens = { input: BigInt(input), cachedInput: BigInt(cached), output: BigInt(output) };
    expect(costMicros(tokens, frozenPrice(listed, tier))).toBe(Number(cost));
  });
});

describe("what a request holds", () => {
  test.each(examples("hold"))("max_tokens %s × %s: %s", async (...cells) => {
    const [maxTokens, ratio, hold] = cells;
    const id = `holder ${(count += 1)}`;
    const key = await givenUser(gateway, id, { quotaMicros: 1_000_000, tier: ratio === "1" ? "default" : "half" });
    let held: bigint | undefined;
    gateway.engine.script = async function* ({ request }) {
      held = (await gateway.state.ledger.quota(id))?.held;
      yield text("x");
      yield finished(request);
    };
    const answer = await post(key, maxTokens === "none" ? {} : { max_tokens: Number(maxTokens) });
    expect(answer.status).toBe(200);
    expect(Number(held)).toBe(Number(hold));
  });
});

describe("what a request pays", () => {
  const scripts: Record<string, (input: number, output: number) => Script> = {
    finished: (input, output) =>
      async function* ({ request }) {
        yield started();
        yield text("words", output);
        yield finished(request, StopReason.END_TURN, { input, output });
      },
    "client left": (input, output) =>
      async function* ({ request, cancelled, signal }) {
        yield started();
        yield text("words", output);
        await aborted(cancelled, signal);
        yield finished(request, StopReason.CANCELLED, { end: End.CANCELLED, input, output });
      },
    "failure after content": (input, output) =>
      async function* ({ request }) {
        yield started();
        yield text("words", output);
        throw failure(request, "AGENT_ERROR", {
          end: End.FAILED_AFTER_CONTENT,
          content: true,
          usage: true,
          input,
          output,
        });
      },
    "failure before content": () =>
      async function* ({ request }) {
        yield started();
        throw failure(request, "AGENT_ERROR");
      },
  };

  test.each(examples("settle"))("of %s, %s with %s input and %s output: %s, pays %s, has %s", async (...cells) => {
    const [granted, how = "", input, output, end = "", pays, available] = cells;
    const id = `payer ${(count += 1)}`;
    const key = await givenUser(gateway, id, { quotaMicros: Number(granted) });
    const script = scripts[how];
    if (!script) throw new Error(`No script for "${how}".`);
    gateway.engine.script = script(Number(input), Number(output));
    const leaving = new AbortController();
    const answer = await post(key, { max_tokens: 100, stream: true }, leaving.signal);
    if (how === "client left") {
      await answer.body?.getReader().read();
      leaving.abort();
    } else await answer.text();
    const quota = await until("it is settled", async () => {
      const found = await gateway.state.ledger.quota(id);
      const { entries } = await gateway.state.ledger.usage({ userId: id, limit: 10 });
      return found?.held === 0n && entries.length === 1 && { ...found, entry: entries[0] };
    });
    expect({
      pays: Number(quota.entry?.costMicros),
      available: Number(quota.available),
      end: quota.entry?.end,
    }).toEqual({
      pays: Number(pays),
      available: Number(available),
      end: End[end.toUpperCase() as keyof typeof End],
    });
  });
});

describe("budgets", () => {
  const windows: Record<string, BudgetWindow> = {
    total: BudgetWindow.TOTAL,
    day: BudgetWindow.DAY,
    week: BudgetWindow.WEEK,
    month: BudgetWindow.MONTH,
  };

  test.each(examples("budget"))("per %s, let in at %s, asked at %s: %s left", async (...cells) => {
    const [per = "", first = "", then = "", left] = cells;
    const { state } = gateway;
    const userId = `saver ${(count += 1)}`;
    const keyId = `key of ${userId}`;
    const key = {
      id: keyId,
      hash: keyId,
      budgetMicros: 1_000,
      ...(windows[per] ? { budgetWindow: windows[per] } : {}),
    };
    await givenStoredUser(state, { id: userId, quotaMicros: 1_000_000, key });
    const ask = (requestId: string, at: string, holdMicros: number) => {
      const now = Date.parse(at);
      return state.ledger.admit(admission({ requestId, userId, keyId, holdMicros, now, expiresAt: now + 60_000 }));
    };
    expect(await ask("first", first, 400)).toMatchObject({ admitted: true });
    await state.ledger.settle(settlement({ requestId: "first", userId, costMicros: 400, now: Date.parse(first) }));
    expect(await ask("too much", then, 1_001)).toMatchObject({
      refusal: { scope: "key", availableMicros: Number(left) },
    });
    expect(await ask("all of it", then, Number(left))).toMatchObject({ admitted: true });
  });
});
