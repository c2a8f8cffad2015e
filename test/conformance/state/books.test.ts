// The books under long random sequences: whatever happens in whatever order, and repeated, every balance adds up.
import { expect, test } from "vitest";
import { End } from "#gen/drawbridge/v1/usage";
import type { State } from "../../../services/state/state.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import {
  admission,
  allUsage,
  apiKey,
  creditBooks,
  givenUser,
  lease,
  outcome,
  quotaBooks,
  settlement,
  spec,
  t0,
} from "./given.ts";
import { conformance } from "./implementations.ts";

const users = ["u {1}", "u {2}"];
const accounts = ["a {1}", "a {2}"];
const steps = 400;
/** Operations at a time. */
const width = 8;

conformance("books", (create) => {
  const seeds = process.env["DRAWBRIDGE_TEST_SEED"]
    ? [Number(process.env["DRAWBRIDGE_TEST_SEED"])]
    : [1, 2, Math.floor(Math.random() * 2 ** 31)];

  test.each(seeds)("add up after random operations (DRAWBRIDGE_TEST_SEED=%i)", async (seed) => {
    await using store = await create();
    const { state } = store;
    const random = seededRandom(seed);
    for (const [index, id] of users.entries()) {
      await givenUser(state, { id, quotaMicros: 5_000, key: { id: `k-${index}` } });
      await state.access.createKey(apiKey({ id: `b-${index}`, userId: id, budgetMicros: 2_000 }), t0);
    }
    for (const id of accounts) await state.accounts.create(spec({ id, initialMillicredits: 20_000n }), "api", t0);
    for (let step = 0; step < steps; step += width) {
      const now = t0 + step * 500;
      await Promise.all(Array.from({ length: width }, () => operate(state, random, now)));
      for (const id of users) await quotaBooks(state, id);
      for (const id of accounts) await creditBooks(state, id);
    }
    await expectNothingLost(state);
  });
});

type Pick = (below: number) => number;

async function operate(state: State, random: () => number, now: number): Promise<void> {
  const pick: Pick = (below) => Math.floor(random() * below);
  const operations = [admit, admit, settle, settle, acquire, acquire, report, report, grant];
  await operations[pick(operations.length)]?.(state, pick, now);
}

async function admit(state: State, pick: Pick, now: number): Promise<void> {
  const index = pick(users.length);
  const keyId = `${pick(2) === 0 ? "k" : "b"}-${index}`;
  const fields = { requestId: `r${pick(60)}`, userId: users[index] ?? "", keyId, holdMicros: pick(800), now };
  await state.ledger.admit(admission({ ...fields, expiresAt: now + pick(20_000) })).catch(ignoreSettled);
}

/** A request that was settled is not admitted again: the random ids repeat. */
function ignoreSettled(error: unknown): void {
  expect(error).toMatchObject({ reason: "ALREADY_EXISTS" });
}

async function settle(state: State, pick: Pick, now: number): Promise<void> {
  const userId = users[pick(users.length)] ?? "";
  const end = [End.FINISHED, End.CANCELLED, End.EXPIRED][pick(3)] ?? End.FINISHED;
  await state.ledger.settle(settlement({ requestId: `r${pick(60)}`, userId, costMicros: pick(1_200), end, now }));
}

async function acquire(state: State, pick: Pick, now: number): Promise<void> {
  const accountId = accounts[pick(accounts.length)] ?? "";
  const fields = { attemptId: `t${pick(60)}`, workerId: `w${pick(2)}`, millicredits: pick(3_000), capacity: 6 };
  await state.leases.acquire(lease({ ...fields, accountId, now, expiresAt: now + pick(20_000) }));
}

async function report(state: State, pick: Pick, now: number): Promise<void> {
  const accountId = accounts[pick(accounts.length)] ?? "";
  const millicredits = pick(2) === 0 ? undefined : BigInt(pick(4_000));
  await state.leases.settle(
    outcome({ attemptId: `t${pick(60)}`, accountId, content: pick(2) === 0, millicredits }),
    now,
  );
}

async function grant(state: State, pick: Pick, now: number): Promise<void> {
  const index = pick(2);
  const kinds = [
    () => state.access.grantQuota(users[index] ?? "", `g${pick(10)}`, pick(500), now),
    () => state.accounts.grant(accounts[index] ?? "", `g${pick(10)}`, pick(5_000), now),
    () => state.accounts.setAvailable(accounts[index] ?? "", pick(20_000), now),
  ];
  await kinds[pick(kinds.length)]?.();
}

/** What is held is what open holds and leases say, what was spent is what the ledger says, and it can all be given back. */
async function expectNothingLost(state: State): Promise<void> {
  const forever = Number.MAX_SAFE_INTEGER;
  const holds = await state.ledger.expired(forever, 1_000);
  const leases = await state.leases.expired(forever, 1_000);
  for (const userId of users) {
    const { held, spent } = await quotaBooks(state, userId);
    expect(sum(holds.filter((each) => each.userId === userId).map((each) => each.holdMicros))).toBe(held);
    expect(sum((await allUsage(state, { userId })).map((each) => Number(each.costMicros)))).toBe(spent);
  }
  for (const accountId of accounts) {
    const { held } = await creditBooks(state, accountId);
    const open = leases.filter((each) => each.accountId === accountId);
    expect(sum(open.map((each) => each.millicredits))).toBe(held);
    expect(open.map((each) => each.attemptId).toSorted()).toEqual(
      (await state.leases.open(accountId)).map((each) => each.attemptId).toSorted(),
    );
  }
  for (const { requestId, userId } of holds)
    await state.ledger.settle(settlement({ requestId, userId, costMicros: 0 }));
  for (const { attemptId, accountId } of leases) {
    await state.leases.settle(outcome({ attemptId, accountId, content: false }), t0);
  }
  for (const userId of users) expect(await quotaBooks(state, userId)).toMatchObject({ held: 0 });
  for (const accountId of accounts) expect(await creditBooks(state, accountId)).toMatchObject({ held: 0 });
}

function sum(amounts: readonly number[]): number {
  return amounts.reduce((total, each) => total + each, 0);
}
