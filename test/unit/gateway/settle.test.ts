// Holds that are settled, tried again, renewed and swept: the embedded store in memory, which can be taken away, under a virtual clock.
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { PriceSchema } from "#gen/drawbridge/v1/access_service";
import { End } from "#gen/drawbridge/v1/usage";
import { createHolds, type Holds } from "../../../services/gateway/access/holds.ts";
import { keepTrimming } from "../../../services/gateway/access/retention.ts";
import { createSettler, type Settler } from "../../../services/gateway/access/settle.ts";
import { settlementOf } from "../../../services/gateway/access/settlement.ts";
import { keepSweeping, sweepHolds } from "../../../services/gateway/access/sweep.ts";
import { createUnsettled } from "../../../services/gateway/access/unsettled.ts";
import { DrawbridgeError } from "../../../services/kit/errors.ts";
import { silentLog } from "../../../services/kit/log.ts";
import { openState } from "../../../services/state/open.ts";
import type { Ledger, State } from "../../../services/state/state.ts";
import { admission, allUsage, givenUser, outcome, quotaBooks, usageOf } from "../../conformance/state/given.ts";
import { until } from "../../support/until.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

const ttlMs = 60_000;
/** A millionth of a dollar for each token. */
const price = create(PriceSchema, { model: "m", inputMicrosPerMillion: 10n ** 9n, outputMicrosPerMillion: 10n ** 9n });
const hold = { userId: "u", requestId: "req", price };
const ended = outcome({ usage: usageOf(3, 4) });

let clock: VirtualClock;
let state: State;
let fault: DrawbridgeError | undefined;
let ledger: Ledger;
let holds: Holds;
let settler: Settler;
let folder: string;
const away = new DrawbridgeError("STATE_UNAVAILABLE", "The store is away.");

beforeEach(async () => {
  clock = new VirtualClock(Date.UTC(2026, 0, 1));
  fault = undefined;
  state = await openState("sqlite::memory:", { log: silentLog });
  ledger = faulty(state.ledger);
  holds = createHolds({ ledger, clock, log: silentLog, ttlMs });
  folder = await mkdtemp(join(tmpdir(), "drawbridge-unsettled-"));
  settler = startSettler();
  await givenUser(state);
});

/** As a gateway has one, and the next gateway on its disk. */
function startSettler(): Settler {
  const unsettled = createUnsettled(join(folder, "unsettled"), silentLog);
  return createSettler({ ledger, holds, unsettled, clock, random: () => 0.5, log: silentLog, pendingMax: 2 });
}

afterEach(async () => {
  await settler[Symbol.asyncDispose]();
  await holds[Symbol.asyncDispose]();
  await state[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

/** Fails with `fault` while there is one. */
function faulty(real: Ledger): Ledger {
  return {
    ...real,
    async settle(request) {
      if (fault) throw fault;
      return real.settle(request);
    },
    async renew(open, expiresAt) {
      if (fault) throw fault;
      await real.renew(open, expiresAt);
    },
  };
}

async function admit(requestId = "req"): Promise<void> {
  await state.ledger.admit(admission({ requestId, price, now: clock.now(), expiresAt: clock.now() + ttlMs }));
  holds.add({ userId: "u", requestId, keyId: "k" });
}

const sweep = (isOwn: (requestId: string) => boolean = () => false) =>
  sweepHolds({ state, isOwn, clock, log: silentLog, intervalMs: 5_000 });

describe("a settlement", () => {
  it("charges what was used and releases the rest", async () => {
    await admit();
    expect(await settler.settle(hold, ended)).toMatchObject({ costMicros: 7n, end: End.FINISHED, accountId: "a" });
    expect(await quotaBooks(state)).toEqual({ granted: 1_000, available: 993, held: 0, spent: 7 });
    expect(holds.has("req")).toBe(false);
  });

  it("charges nothing where nothing ran", async () => {
    await admit();
    expect(await settler.settle(hold, undefined)).toMatchObject({ costMicros: 0n, end: End.FAILED_BEFORE_CONTENT });
    expect(await quotaBooks(state)).toMatchObject({ available: 1_000, held: 0, spent: 0 });
  });

  it("waits for a store that is away, however long, and is then made once", async () => {
    holds.start();
    await admit();
    fault = away;
    expect(await settler.settle(hold, ended)).toBeUndefined();
    await clock.advance(10 * 60_000);
    expect(await quotaBooks(state)).toMatchObject({ held: 100, spent: 0 });
    fault = undefined;
    await clock.advance(10_000);
    expect(await quotaBooks(state)).toEqual({ granted: 1_000, available: 993, held: 0, spent: 7 });
    expect(await allUsage(state)).toHaveLength(1);
    expect(holds.has("req")).toBe(false);
  });

  it("is not overtaken by this gateway's own sweep, which knows less", async () => {
    await admit();
    fault = away;
    await settler.settle(hold, ended);
    await clock.advance(2 * ttlMs);
    expect(await sweep((requestId) => holds.has(requestId))).toBe(0);
    fault = undefined;
    await clock.advance(10_000);
    expect(await quotaBooks(state)).toMatchObject({ spent: 7 });
  });

  it("that the store refuses is given up, and left to the sweep", async () => {
    await admit();
    fault = new DrawbridgeError("INTERNAL", "The store refused an operation.");
    await settler.settle(hold, ended);
    await clock.advance(10 * 60_000);
    expect(holds.has("req")).toBe(false);
  });

  it("does not wait with more than so many others", async () => {
    for (const requestId of ["a", "b", "c"]) await admit(requestId);
    fault = away;
    for (const requestId of ["a", "b", "c"]) await settler.settle({ ...hold, requestId }, ended);
    expect(["a", "b", "c"].map((requestId) => holds.has(requestId))).toEqual([true, true, false]);
  });

  it("is on disk while the store is away, and no longer", async () => {
    await admit();
    fault = away;
    await settler.settle(hold, ended);
    expect(await readdir(join(folder, "unsettled"))).toEqual(["req.json"]);
    fault = undefined;
    await clock.advance(10_000);
    await until("its file is gone", async () => (await readdir(join(folder, "unsettled"))).length === 0);
  });

  it("is made by the gateway that starts after one that was killed", async () => {
    await admit();
    fault = away;
    await settler.settle(hold, ended);
    await settler[Symbol.asyncDispose]();
    fault = undefined;
    settler = startSettler();
    await settler.resume();
    await until("it is settled", async () => (await allUsage(state)).length === 1);
    expect(await quotaBooks(state)).toEqual({ granted: 1_000, available: 993, held: 0, spent: 7 });
    expect(await allUsage(state)).toMatchObject([
      { costMicros: 7n, end: End.FINISHED, accountId: "a", usage: usageOf(3, 4) },
    ]);
    await until("its file is gone", async () => (await readdir(join(folder, "unsettled"))).length === 0);
    // What was settled before is not settled again.
    await settler.resume();
    expect(await allUsage(state)).toHaveLength(1);
  });

  it("that cannot be read stops none of the others", async () => {
    for (const requestId of ["req", "other"]) await admit(requestId);
    fault = away;
    for (const requestId of ["req", "other"]) await settler.settle({ ...hold, requestId }, ended);
    await settler[Symbol.asyncDispose]();
    await writeFile(join(folder, "unsettled", "req.json"), "{ half");
    fault = undefined;
    settler = startSettler();
    await settler.resume();
    await until("the other is settled", async () => (await allUsage(state)).length === 1);
    expect(await allUsage(state)).toMatchObject([{ requestId: "other", costMicros: 7n }]);
  });

  it("lets the gateway stop", async () => {
    await admit();
    fault = away;
    await settler.settle(hold, ended);
    await settler[Symbol.asyncDispose]();
    expect(await quotaBooks(state)).toMatchObject({ held: 100 });
  });
});

describe("the hold of a request that runs", () => {
  it("is renewed for as long as it runs", async () => {
    holds.start();
    await admit();
    await clock.advance(10 * ttlMs);
    expect(await state.ledger.expired(clock.now(), 10)).toEqual([]);
    holds.remove("req");
    await clock.advance(ttlMs);
    expect(await state.ledger.expired(clock.now(), 10)).toHaveLength(1);
  });

  it("outlives one renewal that fails", async () => {
    holds.start();
    await admit();
    fault = away;
    await clock.advance(ttlMs / 3);
    fault = undefined;
    await clock.advance(ttlMs / 2);
    expect(await state.ledger.expired(clock.now(), 10)).toEqual([]);
  });
});

describe("the sweep", () => {
  it("settles what a dead gateway left from the recorded outcome", async () => {
    await admit();
    await state.outcomes.record(outcome({ usage: usageOf(3, 4), end: End.CANCELLED }), 10 * ttlMs, clock.now());
    await clock.advance(ttlMs);
    expect(await sweep()).toBe(1);
    expect(await allUsage(state)).toMatchObject([{ costMicros: 7n, end: End.CANCELLED, accountId: "a" }]);
    expect(await sweep()).toBe(0);
  });

  it("releases it where nothing is known", async () => {
    await admit();
    await clock.advance(ttlMs);
    await sweep();
    expect(await quotaBooks(state)).toEqual({ granted: 1_000, available: 1_000, held: 0, spent: 0 });
    expect(await allUsage(state)).toMatchObject([{ costMicros: 0n, end: End.EXPIRED, accountId: "" }]);
  });

  it("leaves alone what has not ended, and what is its own", async () => {
    await admit();
    expect(await sweep()).toBe(0);
    await clock.advance(ttlMs);
    expect(await sweep(() => true)).toBe(0);
    expect(await quotaBooks(state)).toMatchObject({ held: 100 });
  });

  it("is not stopped by one hold that cannot be settled", async () => {
    for (const requestId of ["a", "b"]) await admit(requestId);
    await clock.advance(ttlMs);
    const settle: Ledger["settle"] = async (request) => {
      if (request.requestId === "a") throw new DrawbridgeError("INTERNAL", "The store refused an operation.");
      return state.ledger.settle(request);
    };
    const broken = { outcomes: state.outcomes, ledger: { ...state.ledger, settle } };
    expect(await sweepHolds({ state: broken, isOwn: () => false, clock, log: silentLog, intervalMs: 1 })).toBe(1);
    expect(await state.ledger.hold("u", "b")).toBeUndefined();
  });

  it("goes on after a store that was away, by time and by news", async () => {
    const ending = new AbortController();
    let awaySince = true;
    const expired: Ledger["expired"] = async (now, limit) => {
      if (awaySince) throw away;
      return state.ledger.expired(now, limit);
    };
    const flaky = { outcomes: state.outcomes, ledger: { ...state.ledger, expired } };
    const options = { state: flaky, isOwn: () => false, clock, log: silentLog, intervalMs: 30_000 };
    const sweeping = keepSweeping(options, ending.signal);
    await admit();
    await clock.advance(ttlMs);
    expect(await quotaBooks(state)).toMatchObject({ held: 100 });
    awaySince = false;
    await state.outcomes.record(outcome({ usage: usageOf(3, 4) }), 10 * ttlMs, clock.now());
    await clock.advance(1_000);
    expect(await quotaBooks(state)).toMatchObject({ held: 0, spent: 7 });
    ending.abort();
    await sweeping;
  });
});

describe("the ledger's end", () => {
  const dayMs = 24 * 3_600_000;

  it("deletes entries that are older than the retention, and no others, in batches", async () => {
    for (let i = 0; i < 1_200; i++) {
      const requestId = `old-${i}`;
      await state.ledger.admit(admission({ requestId, holdMicros: 0, now: clock.now() }));
      await state.ledger.settle({
        ...settlementOf({ ...hold, requestId }, undefined, End.CANCELLED),
        now: clock.now(),
      });
    }
    await clock.advance(10 * dayMs);
    await state.ledger.admit(admission({ requestId: "young", holdMicros: 0, now: clock.now() }));
    await state.ledger.settle({
      ...settlementOf({ ...hold, requestId: "young" }, undefined, End.CANCELLED),
      now: clock.now(),
    });
    const stopping = new AbortController();
    const trimming = keepTrimming(
      { ledger: state.ledger, clock, log: silentLog, retentionMs: 5 * dayMs },
      stopping.signal,
    );
    await clock.advance(2_000);
    const left = await allUsage(state);
    expect(left.map(({ requestId }) => requestId)).toEqual(["young"]);
    stopping.abort();
    await trimming;
  });
});
