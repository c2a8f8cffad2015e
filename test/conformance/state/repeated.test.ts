// A caller that got no answer asks again, whatever it asked: a repeated operation changes nothing more. Each one that changes something stands in
// the table below, done twice; events are the exception, since an event has no name of its own before it is written.
import { create as message } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { PriceSchema } from "#gen/drawbridge/v1/access_service";
import { BreakerSchema, BreakerState } from "#gen/drawbridge/v1/account";
import { ChannelSpecSchema } from "#gen/drawbridge/v1/channel";
import type { NewCode, State } from "../../../services/state/state.ts";
import {
  adminKey,
  admission,
  allUsage,
  apiKey,
  givenUser,
  lease,
  minuteMs,
  outcome,
  settlement,
  spec,
  t0,
  tier,
  worker,
} from "./given.ts";
import { conformance } from "./implementations.ts";

const forever = Number.MAX_SAFE_INTEGER;
const code: NewCode = { id: "c", name: "", prefix: "DB-", hash: "hash of c", quotaMicros: 7, expiresAt: undefined };
const channel = message(ChannelSpecSchema, { id: "ch", kind: "openai", models: { m: "m" } });

/** A user with a key, an account with a lease, a hold, and one of everything that can be there. */
async function furnish(state: State): Promise<void> {
  const { access, accounts, leases, ledger, workers } = state;
  await givenUser(state);
  await givenUser(state, { id: "other", key: { id: "k-other" } });
  await access.addAdminKey(adminKey(), t0);
  await access.addAdminKey(adminKey({ id: "second" }), t0);
  await access.addCodes([code], t0);
  await accounts.create(spec(), "api", t0);
  await accounts.create(spec({ id: "b" }), "api", t0);
  await leases.acquire(lease());
  await ledger.admit(admission());
  await ledger.admit(admission({ requestId: "old" }));
  await ledger.settle(settlement({ requestId: "old" }));
  await workers.put(worker(), minuteMs, t0);
  await state.channels.create(channel, "api", t0);
  await state.leader.acquire("me", minuteMs, t0);
}

const operations: Record<string, (state: State) => Promise<unknown>> = {
  "workers.put": ({ workers }) => workers.put(worker({ id: "new" }), minuteMs, t0),
  "workers.beat": ({ workers }) => workers.beat(worker({ healthReason: "changed" }), minuteMs, t0 + 1),
  "workers.remove": ({ workers }) => workers.remove("w", "w-1", t0),
  "workers.prune": ({ workers }) => workers.prune(t0 + minuteMs),
  "accounts.create": ({ accounts }) => accounts.create(spec({ id: "new" }), "api", t0),
  "accounts.update": ({ accounts }) => accounts.update(spec({ slots: 9 }), 0, t0),
  "accounts.remove": ({ accounts }) => accounts.remove("a", 0, t0),
  "accounts.setConditions": ({ accounts }) => accounts.setConditions("a", [], t0),
  "accounts.grant": ({ accounts }) => accounts.grant("a", "g", 500, t0),
  "accounts.setAvailable": ({ accounts }) => accounts.setAvailable("a", 500, t0),
  "leases.acquire": ({ leases }) => leases.acquire(lease({ attemptId: "new", requestId: "new" })),
  "leases.settle": ({ leases }) => leases.settle(outcome(), t0),
  "leases.renew": ({ leases }) => leases.renew("a", ["att"], t0 + 9 * minuteMs),
  "outcomes.record": ({ outcomes }) => outcomes.record(outcome(), minuteMs, t0),
  "breakers.compareAndSet": ({ breakers }) =>
    breakers.compareAndSet(message(BreakerSchema, { accountId: "a", state: BreakerState.OPEN })),
  "access.createUser": ({ access }) => access.createUser({ id: "new", tier: "default", quotaMicros: 5 }, t0),
  "access.updateUser": ({ access }) => access.updateUser("u", { tier: "gold", disabled: true }, t0),
  "access.deleteUser": ({ access }) => access.deleteUser("u", t0),
  "access.grantQuota": ({ access }) => access.grantQuota("u", "g", 500, t0),
  "access.createKey": ({ access }) => access.createKey(apiKey({ id: "new" }), t0),
  "access.updateKey": ({ access }) => access.updateKey("k", { name: "another name" }, t0),
  "access.rotateKey": ({ access }) =>
    access.rotateKey("k", { prefix: "sk-", hash: "rotated", previousEndsAt: t0 + minuteMs }, t0),
  "access.revokeKey": ({ access }) => access.revokeKey("k", t0),
  "access.addAdminKey": ({ access }) => access.addAdminKey(adminKey({ id: "new" }), t0),
  "access.revokeAdminKey": ({ access }) => access.revokeAdminKey("second", t0),
  "access.addCodes": ({ access }) => access.addCodes([{ ...code, id: "new", hash: "hash of new" }], t0),
  "access.redeemCode": ({ access }) => access.redeemCode("hash of c", "u", t0),
  "access.setTier": ({ access }) => access.setTier(tier({ name: "gold" })),
  "access.setPrice": ({ access }) => access.setPrice(message(PriceSchema, { model: "m" })),
  "ledger.admit": ({ ledger }) => ledger.admit(admission({ requestId: "new" })),
  "ledger.settle": ({ ledger }) => ledger.settle(settlement()),
  "ledger.renew": ({ ledger }) => ledger.renew([{ userId: "u", requestId: "req", keyId: "k" }], t0 + 9 * minuteMs),
  "ledger.trim": ({ ledger }) => ledger.trim(forever, 10),
  "demand.report": ({ demand }) => demand.report("s", "m", 3, minuteMs, t0),
  "leader.acquire": ({ leader }) => leader.acquire("me", 2 * minuteMs, t0),
  "leader.release": ({ leader }) => leader.release("me"),
  "channels.create": ({ channels }) => channels.create(message(ChannelSpecSchema, { id: "new" }), "api", t0),
  "channels.update": ({ channels }) => channels.update({ ...channel, priority: 5 }, "api", 0),
  "channels.setDisabled": ({ channels }) => channels.setDisabled("ch", true),
  "channels.remove": ({ channels }) => channels.remove("ch"),
  identify: (state) => state.identify("a name"),
};

/** All that can be asked of a store, without the revisions of what is written anew with each call. */
async function everything(state: State) {
  const { workers } = await state.workers.list(t0);
  const accounts = await state.accounts.list();
  return {
    workers: workers.map(({ revision: _revision, ...rest }) => rest),
    accounts,
    leases: await Promise.all(["a", "b", "new"].map((id) => state.leases.open(id))),
    expiring: await state.leases.expired(forever, 100),
    breakers: await state.breakers.list(),
    outcomes: [
      await state.outcomes.byAttempt({ requestId: "req", attemptId: "att" }, t0),
      await state.outcomes.finalOf("req", t0),
    ],
    users: await state.access.listUsers("", 100),
    keys: await state.access.listKeys(undefined, "", 100),
    found: await Promise.all(["hash of k", "rotated", "hash of new"].map((hash) => state.access.findKey(hash))),
    adminKeys: await state.access.listAdminKeys(),
    codes: await state.access.listCodes("", 100),
    tiers: await state.access.listTiers(),
    prices: await state.access.listPrices(),
    quotas: await Promise.all(["u", "other", "new"].map((id) => state.ledger.quota(id))),
    limits: await state.ledger.limits("other", tier(), t0, "k-other"),
    holds: await state.ledger.expired(forever, 100),
    usage: await allUsage(state),
    demand: await state.demand.list(t0),
    leader: await state.leader.current(t0),
    channels: (await state.channels.list()).map(({ revision: _revision, ...rest }) => rest),
  };
}

conformance("an operation that is repeated changes nothing more", (create) => {
  test.each(Object.entries(operations))("%s", async (_name, operation) => {
    await using store = await create();
    const { state } = store;
    await furnish(state);
    await operation(state);
    const once = await everything(state);
    // It may be told that it was done before: that there is one already, or none any more.
    const answers = await Promise.allSettled([operation(state), operation(state)]);
    for (const answer of answers) {
      if (answer.status === "rejected")
        expect(["ALREADY_EXISTS", "NOT_FOUND"]).toContain((answer.reason as { reason?: string }).reason);
    }
    expect(await everything(state)).toEqual(once);
  });

  test("the table has every operation of the store", async () => {
    await using store = await create();
    const reads =
      /^(get|list|find|current|open|expired|hold|limits|quota|usage|byAttempt|finalOf|initialized|onChange|append)/;
    const parts = Object.entries(store.state).filter(([, part]) => typeof part === "object");
    const named = parts.flatMap(([name, part]) => Object.keys(part as object).map((each) => `${name}.${each}`));
    const missing = named.filter((name) => !reads.test(name.split(".")[1] ?? "") && !(name in operations));
    expect(missing).toEqual([]);
  });
});
