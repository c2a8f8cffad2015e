// What an entry of the usage ledger takes of a Valkey server's memory: what docs/state.md tells operators to reckon with.
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { silentLog } from "../../../services/kit/log.ts";
import { openState } from "../../../services/state/open.ts";
import type { State } from "../../../services/state/state.ts";
import { admission, apiKey, givenUser, settlement, t0, usageOf } from "../../conformance/state/given.ts";
import { startValkeyProcess } from "../../support/valkey.ts";

const entries = 2_000;
const cleanUp = new AsyncDisposableStack();
let state: State;
let client: Redis;

beforeAll(async () => {
  const { port } = cleanUp.use(await startValkeyProcess());
  state = cleanUp.use(await openState(`valkey://127.0.0.1:${port}`, { log: silentLog }));
  client = cleanUp.adopt(new Redis({ host: "127.0.0.1", port }), (each) => each.disconnect());
  await givenUser(state, { quotaMicros: 1_000_000_000 });
});
afterAll(() => cleanUp.disposeAsync());

const usedBytes = async () => Number(/used_memory_dataset:(\d+)/.exec(await client.info("memory"))?.[1]);

/** How many bytes an entry takes, of many whose ids and names are as long as they are made, or as they may be. */
async function bytesOfEntry(names: {
  keyId: string;
  model: string;
  accountId: string;
  idLength: number;
}): Promise<number> {
  const { keyId, model, accountId, idLength } = names;
  const before = await usedBytes();
  const settleOne = async (index: number) => {
    const requestId = `${keyId.slice(0, 4)}${index}`.padEnd(idLength, "x");
    const now = t0 + index * 1_000;
    await state.ledger.admit(admission({ requestId, keyId, model, now, holdMicros: 100 }));
    const usage = usageOf(1_234, 567);
    await state.ledger.settle(settlement({ requestId, now, usage, accountId, costMicros: 60, millicredits: 1_000 }));
  };
  for (let index = 0; index < entries; index += 50) {
    await Promise.all(Array.from({ length: 50 }, (_, offset) => settleOne(index + offset)));
  }
  return ((await usedBytes()) - before) / entries;
}

test("an entry takes what the documentation says, and the largest one there can be not much more", async () => {
  await state.access.createKey(apiKey({ id: "key_0123456789abcdefghjkmnpq" }), t0);
  const usual = {
    keyId: "key_0123456789abcdefghjkmnpq",
    model: "claude-sonnet-4.5",
    accountId: "kiro-1",
    idLength: 28,
  };
  expect(await bytesOfEntry(usual)).toBeLessThan(650);
  const longest = "l".repeat(128);
  await state.access.createKey(apiKey({ id: longest }), t0);
  const large = { keyId: longest, model: "m".repeat(256), accountId: longest, idLength: 128 };
  expect(await bytesOfEntry(large)).toBeLessThan(1_600);
});

test("a trimmed entry takes nothing more", async () => {
  let trimmed = 0;
  for (;;) {
    const some = await state.ledger.trim(Number.MAX_SAFE_INTEGER, 500);
    if (some === 0) break;
    trimmed += some;
  }
  expect(trimmed).toBe(2 * entries);
  expect(await client.exists("entries:{u}", "usage:{u}")).toBe(0);
});
