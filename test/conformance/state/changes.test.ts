import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { create as message } from "@bufbuild/protobuf";
import { BreakerSchema } from "#gen/drawbridge/v1/account";
import type { Observable, State } from "../../../services/state/state.ts";
import { until } from "../../support/until.ts";
import { admission, givenUser, outcome, settlement, spec, t0, worker } from "./given.ts";
import { conformance } from "./implementations.ts";

/** A change of each subject that listeners must hear of. */
const subjects: readonly [
  name: string,
  of: (state: State) => Observable,
  change: (state: State) => Promise<unknown>,
][] = [
  ["workers", (state) => state.workers, (state) => state.workers.put(worker(), 15_000, t0)],
  ["accounts", (state) => state.accounts, (state) => state.accounts.create(spec(), "api", t0)],
  ["outcomes", (state) => state.outcomes, (state) => state.outcomes.record(outcome(), 60_000, t0)],
  [
    "breakers",
    (state) => state.breakers,
    (state) => state.breakers.compareAndSet(message(BreakerSchema, { accountId: "a" })),
  ],
  [
    "access",
    (state) => state.access,
    (state) => state.access.createUser({ id: "new", tier: "default", quotaMicros: 1 }, t0),
  ],
  ["demand", (state) => state.demand, (state) => state.demand.report("s", "m", 1, 60_000, t0)],
  ["ledger", (state) => state.ledger, (state) => state.ledger.settle(settlement())],
  [
    "events",
    (state) => state.events,
    (state) => state.events.append({ at: timestampFromMs(t0), type: "E", accountId: "", workerId: "", message: "" }),
  ],
];

conformance("hints", (create) => {
  test.each(subjects)("%s: a change is heard by every handle", async (_name, of, change) => {
    await using store = await create();
    const { state } = store;
    await givenUser(state);
    await state.ledger.admit(admission());
    const other = await store.open();
    const here = count(of(state));
    const there = count(of(other));
    await until("both have heard what was before", () => settled(here, there));
    const before = { here: here.heard, there: there.heard };
    await change(state);
    await until("this handle hears", () => here.heard > before.here);
    await until("the other handle hears", () => there.heard > before.there);
  });

  test("a listener that is disposed hears nothing more", async () => {
    await using store = await create();
    const { state } = store;
    const gone = count(state.workers);
    gone.subscription[Symbol.dispose]();
    gone.subscription[Symbol.dispose]();
    const stays = count(state.workers);
    await state.workers.put(worker(), 15_000, t0);
    await until("the one that stays hears", () => stays.heard > 0);
    expect(gone.heard).toBe(0);
  });

  test("a worker's end is heard", async () => {
    await using store = await create();
    const { state } = store;
    await state.workers.put(worker(), 15_000, t0);
    const workers = count(state.workers);
    await state.workers.prune(t0 + 15_000);
    await until("the end is heard", () => workers.heard > 0);
  });
});

function count(observable: Observable) {
  const counter = { heard: 0, subscription: observable.onChange(() => void counter.heard++) };
  return counter;
}

/** Whether no hint came for a while: subscribing may bring one of its own. */
async function settled(...counters: readonly { readonly heard: number }[]): Promise<boolean> {
  const before = counters.map(({ heard }) => heard);
  await new Promise((resolve) => setTimeout(resolve, 250));
  return counters.every(({ heard }, index) => heard === before[index]);
}
