// The JSON of client commands, which scripts rely on: names, order, units.
import { create } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { ApiKeySchema, ChannelSchema, PriceSchema, TierSchema, UserSchema } from "#gen/drawbridge/v1/access_service";
import { ChannelState } from "#gen/drawbridge/v1/channel";
import { AccountSchema, BreakerSchema, BreakerState } from "#gen/drawbridge/v1/account";
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import { ActionSchema, ActionType, GetStatusResponseSchema } from "#gen/drawbridge/v1/fleet_service";
import { CandidateSchema } from "#gen/drawbridge/v1/scheduler_service";
import { End, UsageEntrySchema, UsageSource } from "#gen/drawbridge/v1/usage";
import { Health, WorkerSchema } from "#gen/drawbridge/v1/worker";
import { nameOf } from "../../../services/kit/enum-name.ts";
import * as rows from "../../../services/cli/output/rows.ts";

const at = timestampFromMs(Date.UTC(2026, 0, 31, 18, 0, 0, 5));
const iso = "2026-01-31T18:00:00.005Z";

/** Names, order and values: what a reader of the text sees. */
function expectJson(row: object, expected: object): void {
  expect(JSON.stringify(row)).toBe(JSON.stringify(expected));
}

describe("users and keys", () => {
  it("user: millionths of a dollar", () => {
    const quota = { granted: 2_000_000n, available: 1_500_000n, held: 100_000n, spent: 400_000n };
    expectJson(rows.userRow(create(UserSchema, { id: "alice", tier: "default", quota, createdAt: at })), {
      id: "alice",
      granted: 2_000_000,
      available: 1_500_000,
      held: 100_000,
      spent: 400_000,
    });
  });

  it("a new key: id and key", () => {
    expectJson(rows.newKeyRow(create(ApiKeySchema, { id: "key_1", userId: "alice" }), "sk-secret"), {
      id: "key_1",
      key: "sk-secret",
    });
  });

  const unlimited = { rpm: null, tpm: null, concurrency: null, previous_ends_at: null };

  it("key: null for what it does not have", () => {
    const record = { id: "key_1", userId: "alice", name: "ci", prefix: "sk-ab", spentMicros: 7n, createdAt: at };
    const expected = { id: "key_1", user: "alice", name: "ci", prefix: "sk-ab" };
    expectJson(rows.keyRow(create(ApiKeySchema, record)), {
      ...expected,
      models: [],
      allow: [],
      budget: null,
      spent: 7,
      expires_at: null,
      revoked_at: null,
      created_at: iso,
      window: null,
      ...unlimited,
    });
    const limits = { models: ["m"], allowedAddresses: ["10.0.0.0/8"], budgetMicros: 0n, expiresAt: at, revokedAt: at };
    expectJson(rows.keyRow(create(ApiKeySchema, { ...record, ...limits })), {
      ...expected,
      models: ["m"],
      allow: ["10.0.0.0/8"],
      budget: 0,
      spent: 7,
      expires_at: iso,
      revoked_at: iso,
      created_at: iso,
      window: null,
      ...unlimited,
    });
  });
});

describe("usage", () => {
  const entry = {
    requestId: "req_1",
    userId: "alice",
    keyId: "key_1",
    model: "m",
    accountId: "a-1",
    usage: { inputTokens: 100n, outputTokens: 10n, source: UsageSource.REPORTED },
    costMicros: 450n,
    millicredits: 1_500n,
    end: End.FINISHED,
    at,
  };
  const expected = {
    request_id: "req_1",
    user: "alice",
    key: "key_1",
    model: "m",
    account: "a-1",
    input_tokens: 100,
    output_tokens: 10,
    source: "reported",
    cost: 450,
    credits: 1_500,
    end: "finished",
    at: iso,
  };

  it("millionths, thousandths, lower-case words", () => {
    expectJson(rows.usageRow(create(UsageEntrySchema, entry)), expected);
  });

  it("a request that used nothing", () => {
    const { usage: _, ...unused } = entry;
    const failed = { ...unused, accountId: "", costMicros: 0n, millicredits: 0n, end: End.FAILED_BEFORE_CONTENT };
    expectJson(rows.usageRow(create(UsageEntrySchema, failed)), {
      ...expected,
      account: "",
      input_tokens: 0,
      output_tokens: 0,
      source: "estimated",
      cost: 0,
      credits: 0,
      end: "failed_before_content",
    });
  });
});

const account = create(AccountSchema, {
  spec: { id: "a-1", agent: "kiro", models: { z: "z-1", a: "a-1" } },
  credits: { granted: 10_000n, available: 7_000n, held: 1_000n, spent: 2_000n },
  breaker: { accountId: "a-1", state: BreakerState.HALF_OPEN },
  conditions: [{ type: "Ready", status: true, reason: "WorkersReady", message: "Fine.", changedAt: at }],
  workerIds: ["a-1-0"],
});
const accountJson = {
  id: "a-1",
  agent: "kiro",
  models: ["a", "z"],
  granted: 10_000,
  credits: 7_000,
  held: 1_000,
  spent: 2_000,
  breaker: "half_open",
  conditions: [{ type: "Ready", status: true, reason: "WorkersReady", message: "Fine.", changed_at: iso }],
  workers: ["a-1-0"],
};
const pool = { models: ["m"], slots: 2, queueLimit: 16, health: Health.HEALTHY };
const worker = create(WorkerSchema, {
  id: "w-1",
  pid: 42,
  address: "http://127.0.0.1:4000",
  version: "0.1.0",
  health: Health.DEGRADED,
  pools: [
    { ...pool, accountId: "a-1", availableSlots: 1, queueDepth: 3 },
    { ...pool, accountId: "a-2", availableSlots: 2, queueDepth: 0 },
  ],
});
const workerJson = {
  id: "w-1",
  pid: 42,
  address: "http://127.0.0.1:4000",
  accounts: ["a-1", "a-2"],
  health: "degraded",
  slots: 4,
  available_slots: 3,
  queue_depth: 3,
  version: "0.1.0",
};

describe("the fleet", () => {
  it("account: thousandths of a credit, `credits` is what is available", () => {
    expectJson(rows.accountRow(account), accountJson);
  });

  it("an account that never failed has a closed breaker", () => {
    expect(rows.accountRow(create(AccountSchema, { spec: { id: "new" } })).breaker).toBe("closed");
  });

  it("worker: the sum of its pools", () => {
    expectJson(rows.workerRow(worker), workerJson);
  });

  it("status: leader, workers, accounts; null where nobody leads", () => {
    const status = create(GetStatusResponseSchema, { leader: "c-1", workers: [worker], accounts: [account] });
    expectJson(rows.statusRow(status), { leader: "c-1", workers: [workerJson], accounts: [accountJson] });
    expect(rows.statusRow(create(GetStatusResponseSchema)).leader).toBeNull();
  });

  it("breaker", () => {
    const open = {
      accountId: "a-1",
      state: BreakerState.OPEN,
      reason: "It fails.",
      until: at,
      openings: 2,
      changedAt: at,
    };
    const expected = { account: "a-1", state: "open", reason: "It fails." };
    expectJson(rows.breakerRow(create(BreakerSchema, open)), {
      ...expected,
      cause: null,
      until: iso,
      openings: 2,
      changed_at: iso,
    });
    const stopped = { ...open, cause: ErrorReason.AGENT_UNAUTHENTICATED };
    expect(rows.breakerRow(create(BreakerSchema, stopped)).cause).toBe("agent_unauthenticated");
  });

  it("action", () => {
    const action = { type: ActionType.CREATE, accountId: "a-1", workerId: "a-1-0", reason: "Wanted." };
    expectJson(rows.actionRow(create(ActionSchema, action)), {
      type: "create",
      account: "a-1",
      worker: "a-1-0",
      reason: "Wanted.",
    });
  });

  it("candidate: credits in thousandths, as everywhere", () => {
    const candidate = { accountId: "a-1", workerId: "w-1", rank: 1, score: 36.75, credits: 12.25, availableSlots: 2 };
    const expected = { account: "a-1", worker: "w-1" };
    const speed = { weight: 1, firstContent: durationFromMs(250) };
    expectJson(rows.candidateRow(create(CandidateSchema, { ...candidate, ...speed, explanation: "free" })), {
      ...expected,
      rank: 1,
      score: 36.75,
      credits: 12_250,
      available_slots: 2,
      queue_depth: 0,
      rejected: null,
      explanation: "free",
      weight: 1,
      first_content_ms: 250,
    });
    const rejected = { ...candidate, rank: 0, rejected: ErrorReason.BREAKER_OPEN };
    expect(rows.candidateRow(create(CandidateSchema, rejected)).rejected).toBe("breaker_open");
  });
});

describe("tiers, prices and channels", () => {
  it("tier: the fields of the configuration file", () => {
    const tier = {
      name: "half",
      requestsPerMinute: 60n,
      tokensPerMinute: 1_000n,
      concurrency: 4n,
      ratioPermille: 500n,
    };
    expectJson(rows.tierRow(create(TierSchema, tier)), {
      name: "half",
      rpm: 60,
      tpm: 1_000,
      concurrency: 4,
      ratio: 0.5,
      priority: "normal",
      budget: null,
      per: null,
    });
  });

  it("price: millionths of a dollar per million tokens", () => {
    const price = { model: "m", inputMicrosPerMillion: 3_000_000n, outputMicrosPerMillion: 15_000_000n };
    const expected = { model: "m", input: 3_000_000, output: 15_000_000 };
    expectJson(rows.priceRow(create(PriceSchema, price)), { ...expected, cached_input: null, request: 0 });
    const full = { ...price, cachedInputMicrosPerMillion: 0n, requestMicros: 5n };
    expectJson(rows.priceRow(create(PriceSchema, full)), { ...expected, cached_input: 0, request: 5 });
  });

  it("channel", () => {
    const channel = { id: "up", kind: "openai", priority: 1, weight: 2, models: ["m"] };
    const expected = {
      ...channel,
      state: "ready",
      reason: "",
      until: null,
      base_url: "",
      concurrency: 0,
      keys: [],
      in_flight: 0,
      requests: 0,
      errors: 0,
      managed_by: "",
    };
    expectJson(rows.channelRow(create(ChannelSchema, channel)), expected);
    expectJson(rows.channelRow(create(ChannelSchema, { ...channel, disabled: true })), {
      ...expected,
      state: "disabled",
    });
    const keys = [{ name: "env:KEY", state: ChannelState.DISABLED, reason: "refused" }];
    const status = { state: ChannelState.OPEN, reason: "no key", until: timestampFromMs(0), keys, inFlight: 1n };
    const full = create(ChannelSchema, { ...channel, status, spec: { baseUrl: "https://x/v1" }, managedBy: "file" });
    expectJson(rows.channelRow(full), {
      ...expected,
      state: "open",
      reason: "no key",
      until: "1970-01-01T00:00:00.000Z",
      base_url: "https://x/v1",
      keys: [{ name: "env:KEY", state: "disabled", reason: "refused", until: null }],
      in_flight: 1,
      managed_by: "file",
    });
  });
});

it("a value that this version does not know is told as its number", () => {
  expect(nameOf(End, 99)).toBe("99");
});
