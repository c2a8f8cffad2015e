// Many requests at the same time over channels that fail in every way, with clients that leave and limits that refuse: the books add up to the
// last millionth, and nothing stays held or in flight. DRAWBRIDGE_CHANNEL_REQUESTS sets how many (default 400), DRAWBRIDGE_CHANNEL_SEED the seed.
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { End } from "#gen/drawbridge/v1/usage";
import { until } from "../../support/until.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import {
  answers,
  answersWrongJson,
  type Behaviour,
  breaksAfterContent,
  breaksBeforeContent,
  fails,
  startUpstream,
} from "../../support/upstream.ts";
import { adminOf, type GatewayUnderTest, givenUser, model, says } from "../gateway/harness.ts";
import { channelTo, startWithChannels, upstreamModel } from "./given.ts";

const count = Number(process.env["DRAWBRIDGE_CHANNEL_REQUESTS"] ?? 400);
const seed = Number(process.env["DRAWBRIDGE_CHANNEL_SEED"] ?? 1);
const users = ["u-0", "u-1", "u-2", "u-3"];

/** What an upstream does with one request: mostly it answers. */
function moody(random: () => number): Behaviour {
  const moods: readonly Behaviour[] = [
    fails(500),
    fails(503),
    fails(400),
    fails(429, {}, { "retry-after-ms": "20" }),
    breaksBeforeContent,
    breaksAfterContent,
    answersWrongJson,
    answers({ usage: null }),
    answers({ words: Array.from({ length: 30 }, (_, index) => ` w${index}`), between: () => sleep(1) }),
  ];
  const well = answers({});
  return (call) => {
    const at = random();
    return (at < 0.5 ? well : (moods[Math.floor(random() * moods.length)] ?? well))(call);
  };
}

async function oneRequest(gateway: GatewayUnderTest, keys: readonly string[], random: () => number): Promise<void> {
  const leaving = new AbortController();
  const stream = random() < 0.6;
  const name = random() < 0.7 ? upstreamModel : model;
  const leaves = random() < 0.25;
  const apiKey = keys[Math.floor(random() * keys.length)] ?? "";
  const leaveAfterMs = Math.floor(random() * 40);
  if (leaves) void sleep(leaveAfterMs).then(() => leaving.abort());
  try {
    const body = { model: name, stream, messages: [{ role: "user", content: "Hi" }], max_tokens: 40 };
    const response = await gateway.request("/v1/chat/completions", { body, apiKey, signal: leaving.signal });
    await response.text();
  } catch (error) {
    if (!leaves) throw error;
  }
}

test(`the books add up after ${count} requests`, { timeout: 600_000 }, async () => {
  const random = seededRandom(seed);
  await using one = await startUpstream(moody(random));
  await using two = await startUpstream(moody(random));
  const breaker = { calls_min: 20, open: "20ms", open_max: "100ms" };
  await using gateway = await startWithChannels(
    [
      channelTo(one, { id: "one", keys: ["KEY_A", "KEY_B"], breaker }),
      channelTo(two, { id: "two", keys: ["KEY_B", "KEY_C"], weight: 2, breaker }),
    ],
    { tiers: { tight: { rpm: 1_000_000, tpm: 100_000_000, concurrency: 12 } } },
  );
  gateway.engine.script = says("from", " the", " fleet");
  // The last user's money does not last.
  const keys = await Promise.all(
    users.map((id, index) => givenUser(gateway, id, { quotaMicros: index === 3 ? 20_000 : 5_000_000, tier: "tight" })),
  );
  const waiting = Array.from({ length: count }, () => () => oneRequest(gateway, keys, random));
  const lane = async () => {
    for (let next = waiting.pop(); next; next = waiting.pop()) await next();
  };
  await Promise.all(Array.from({ length: 40 }, lane));

  const ends = new Map<End, number>();
  for (const userId of users) {
    const quota = await until(`nothing of ${userId} is held`, async () => {
      const found = await gateway.state.ledger.quota(userId);
      expect(found?.granted).toBe((found?.available ?? 0n) + (found?.held ?? 0n) + (found?.spent ?? 0n));
      return found?.held === 0n && found;
    });
    let spent = 0n;
    let pageToken: string | undefined;
    do {
      const page = await gateway.state.ledger.usage({ userId, limit: 500, pageToken });
      for (const { costMicros, end, accountId, usage } of page.entries) {
        spent += costMicros;
        ends.set(end, (ends.get(end) ?? 0) + 1);
        if (end === End.FINISHED && usage) expect(accountId).toMatch(/^(channel:(one|two)|a-1)$/);
        if (end === End.FAILED_BEFORE_CONTENT) expect(costMicros).toBe(0n);
        // 11 × $1 + 7 × $100 a million, where the upstream tells its usage.
        if (end === End.FINISHED && usage?.inputTokens === 11n && accountId.startsWith("channel:")) {
          expect(costMicros).toBe(711n);
        }
      }
      pageToken = page.nextPageToken;
    } while (pageToken);
    expect(spent).toBe(quota.spent);
  }
  expect(ends.get(End.FINISHED)).toBeGreaterThan(count / 4);
  expect(ends.get(End.FAILED_AFTER_CONTENT)).toBeGreaterThan(0);
  await until("nothing is in flight", async () => {
    const { channels } = await adminOf(gateway.app).listChannels({});
    return channels.every(({ status }) => status?.inFlight === 0n);
  });
});
