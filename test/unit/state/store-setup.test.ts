import { afterEach, describe, expect, it } from "vitest";
import { DrawbridgeError } from "../../../services/kit/errors.ts";
import { silentLog } from "../../../services/kit/log.ts";
import { createStoreSetup } from "../../../services/state/store-setup.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

/** A store that holds its name and a list, and can be emptied. */
function given() {
  const clock = new VirtualClock();
  const store: { name: string | undefined; wanted: string[]; away: boolean } = {
    name: undefined,
    wanted: [],
    away: false,
  };
  let setUps = 0;
  const setup = createStoreSetup({
    state: {
      async identify(proposed) {
        if (store.away) throw new DrawbridgeError("STATE_UNAVAILABLE", "The store is away.");
        return (store.name ??= proposed);
      },
    },
    async setUp() {
      setUps += 1;
      if (store.away) throw new DrawbridgeError("STATE_UNAVAILABLE", "The store is away.");
      store.wanted = [...new Set([...store.wanted, "a"])];
    },
    clock,
    log: silentLog,
  });
  ends.push(setup);
  const empty = () => {
    store.name = undefined;
    store.wanted = [];
  };
  return { clock, store, setup, empty, setUps: () => setUps };
}

const ends: AsyncDisposable[] = [];
afterEach(async () => {
  for (const each of ends.splice(0)) await each[Symbol.asyncDispose]();
});

describe("a store's setup", () => {
  it("is done at the start, and not again while the store is the same, whatever was changed in it", async () => {
    const { clock, store, setup, setUps } = given();
    await setup.start();
    expect(store.wanted).toEqual(["a"]);
    store.wanted = ["changed by hand"];
    await clock.advance(60_000);
    expect([store.wanted, setUps()]).toEqual([["changed by hand"], 1]);
  });

  it("is done again when the store was emptied, and when another process has named the new one", async () => {
    const { clock, store, setup, empty, setUps } = given();
    await setup.start();
    empty();
    await clock.advance(2_000);
    expect([store.wanted, setUps()]).toEqual([["a"], 2]);
    empty();
    store.name = "named by another one";
    await clock.advance(2_000);
    expect([store.wanted, setUps()]).toEqual([["a"], 3]);
  });

  it("is done again until it succeeds", async () => {
    const { clock, store, setup, empty } = given();
    await setup.start();
    empty();
    store.away = true;
    await clock.advance(10_000);
    expect(store.wanted).toEqual([]);
    store.away = false;
    await clock.advance(2_000);
    expect(store.wanted).toEqual(["a"]);
  });

  it("is done before anything is read, even if the store is emptied just then", async () => {
    const { store, setup, empty } = given();
    await setup.start();
    empty();
    expect(await setup.read(async () => store.wanted)).toEqual(["a"]);
    let emptied = 0;
    const read = async () => {
      if (emptied++ === 0) empty();
      return store.wanted;
    };
    expect(await setup.read(read)).toEqual(["a"]);
  });

  it("is not read from a store that is emptied again and again, nor from one that cannot be set up", async () => {
    const { store, setup, empty } = given();
    await setup.start();
    await expect(setup.read(async () => empty())).rejects.toMatchObject({ reason: "STATE_UNAVAILABLE" });
    store.away = true;
    await expect(setup.read(async () => store.wanted)).rejects.toMatchObject({ reason: "STATE_UNAVAILABLE" });
  });
});
