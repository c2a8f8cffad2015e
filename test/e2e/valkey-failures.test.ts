// The store of a running system is killed, hangs, comes back empty, or changes its place: what runs goes on, what is new is told to come back,
// and everything is as it was afterwards, without anybody's help.
import { randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { settledBooks } from "../support/books.ts";
import { ask, fleet, model, words } from "../support/fleet.ts";
import { type SplitSystem, startSplitSystem } from "../support/split-system.ts";
import { configuration, expectBooks, knock, read, serves } from "../support/store-failures.ts";
import { createSystemFolder, startSystem, type System } from "../support/system.ts";
import { until } from "../support/until.ts";
import { connectionNames } from "../support/valkey-connections.ts";
import {
  replicated,
  startValkeyProcess,
  startValkeySentinels,
  type ValkeyProcess,
  type ValkeySentinels,
} from "../support/valkey.ts";

const durable = ["--appendonly", "yes", "--appendfsync", "always"];
const services = ["registry-1", "scheduler-1", "controller-1", "gateway-1"];

describe("one server", () => {
  let valkey: ValkeyProcess;
  let system: SplitSystem;
  const watcher = () => new Redis({ host: "127.0.0.1", port: valkey.port, lazyConnect: true });
  /** Answers that clients got. */
  let answered = 0;

  beforeAll(async () => {
    valkey = await startValkeyProcess(durable);
    system = await startSplitSystem({ state: `valkey://127.0.0.1:${valkey.port}`, configuration });
  });
  afterAll(async () => {
    await system?.[Symbol.asyncDispose]();
    await valkey?.[Symbol.asyncDispose]();
  });

  /** The connections of each process of the system, as the server tells them: such as "gateway-1 hints". */
  const connections = async () => {
    const names = await connectionNames(valkey.port);
    return services
      .map((name) => [name, `${name.replace(/-\d+$/, "")}:${system.pid(name)}:`] as const)
      .flatMap(([name, prefix]) =>
        names.filter((each) => each.startsWith(prefix)).map((each) => each.replace(prefix, `${name} `)),
      );
  };
  /** One for commands and one for hints of each process, and nothing else. */
  const expectFewConnections = async () => {
    const expected = services.flatMap((name) => [`${name} commands`, `${name} hints`]);
    await until("each process has its two connections", async () => (await connections()).length >= expected.length);
    expect(await connections()).toEqual(expected);
    // None without a name, and none of a process that is gone.
    expect(await connectionNames(valkey.port)).toHaveLength(expected.length);
  };

  test("has two connections of each process, which name it, however many requests there are", async () => {
    await expectFewConnections();
    const answers = await Promise.all(Array.from({ length: 40 }, () => knock(system)));
    answered += answers.filter(({ status }) => status === 200).length;
    expect(answers.every(({ status }) => status === 200)).toBe(true);
    await expectFewConnections();
  });

  test("that is killed: streams go on, new requests are told to come back, and all is settled afterwards", async () => {
    const streams = Array.from({ length: 4 }, () => read(system, 60, 100));
    await until("all streams have begun", () => streams.every((stream) => stream.seen() > 3));
    await valkey.kill();
    await until("new requests are refused", async () => (await knock(system)).status === 503);
    const refused = await Promise.all(Array.from({ length: 50 }, () => knock(system)));
    for (const each of refused)
      expect(each).toMatchObject({ status: 503, retryAfter: expect.stringMatching(/^\d+$/) as string });
    // Each ends whole while the store is away, or just after: none waits for it.
    for (const stream of streams) expect(await stream.text).toBe(words(60));
    answered += streams.length;
    await valkey.restart();
    await serves(system);
    answered += 1;
    await expectBooks(system, answered);
    await expectFewConnections();
  });

  test("that hangs: the same, and requests do not pile up behind it", async () => {
    const streams = Array.from({ length: 4 }, () => read(system, 50, 100));
    await until("all streams have begun", () => streams.every((stream) => stream.seen() > 3));
    valkey.pause();
    try {
      await until("new requests are refused", async () => (await knock(system)).status === 503);
      // Once one call has waited in vain the others do not, at once or one after another: these would take minutes otherwise.
      const refused = await Promise.all(Array.from({ length: 50 }, () => knock(system)));
      for (let i = 0; i < 50; i++) refused.push(await knock(system));
      for (const each of refused)
        expect(each).toMatchObject({ status: 503, retryAfter: expect.stringMatching(/^\d+$/) as string });
      for (const stream of streams) expect(await stream.text).toBe(words(50));
      answered += streams.length;
    } finally {
      valkey.resume();
    }
    await serves(system);
    // What was written while nobody waited for it any more may have been taken: those requests are swept as unpaid.
    const { usage } = await settledBooks(system.admin, "default", 60_000);
    expect(usage.filter(({ end }) => end === "finished")).toHaveLength(answered + 1);
    answered += 1;
    await expectFewConnections();
  });

  test.each([true, false])(
    "that is emptied (and restarted: %s): keys and accounts are there again, and no worker ends",
    async (restarts) => {
      const pids = async () => (await system.admin.workers()).map(({ pid }) => pid).toSorted((a, b) => a - b);
      const before = await pids();
      const client = watcher();
      await client.flushall();
      client.disconnect();
      if (restarts) {
        await valkey.kill();
        await valkey.restart();
      }
      // What was made by hand is gone with the store; what the configuration says is brought into it by whoever runs.
      await serves(system);
      await until("every worker is known again", async () => (await pids()).length === before.length);
      expect(await pids()).toEqual(before);
      await expectBooks(system, 1);
      await expectFewConnections();
    },
  );
});

test("`up` on a server that is emptied: the keys that it made are good again, and where it does not know them it makes others", async () => {
  await using valkey = await startValkeyProcess();
  await using folders = new AsyncDisposableStack();
  const folder = folders.adopt(await createSystemFolder(), (path) => rm(path, { recursive: true, force: true }));
  const unset = { DRAWBRIDGE_API_KEY: undefined, DRAWBRIDGE_ADMIN_KEY: undefined };
  const options = {
    configuration: fleet({ state: `valkey://127.0.0.1:${valkey.port}` }),
    folder,
    environment: unset,
  };
  const empty = async () => {
    const client = new Redis({ host: "127.0.0.1", port: valkey.port });
    await client.flushall();
    client.disconnect();
  };
  const answers = (system: System, key: string) =>
    until("a request is answered", async () => {
      const body = { model, messages: ask({ do: "answer" }) };
      return (await system.request("/v1/chat/completions", { apiKey: key, body })).ok;
    });
  {
    await using first = await startSystem(options);
    await answers(first, first.apiKey);
    await empty();
    await answers(first, first.apiKey);
  }
  await using second = await startSystem(options);
  expect(second.apiKey).toBe("");
  await empty();
  const made = await until("new keys are printed", () => /new one[^]*API key +(\S{16,})/.exec(second.printed())?.[1]);
  await answers(second, made);
});

describe("behind Sentinels", () => {
  let valkey: ValkeySentinels;
  let system: SplitSystem;

  beforeAll(async () => {
    valkey = await startValkeySentinels();
    system = await startSplitSystem({ state: `${valkey.url}?prefix=${randomBytes(4).toString("hex")}`, configuration });
  });
  afterAll(async () => {
    await system?.[Symbol.asyncDispose]();
    await valkey?.[Symbol.asyncDispose]();
  });

  test("a failover: streams go on, new requests are served or told to come back, and the books balance afterwards", async () => {
    expect((await knock(system)).status).toBe(200);
    const streams = Array.from({ length: 4 }, () => read(system, 60, 100));
    await until("all streams have begun", () => streams.every((stream) => stream.seen() > 3));
    // The streams' holds and leases, at the least, are with the replica: what it never heard of would be gone.
    await replicated(valkey.master.port);
    await valkey.master.kill();
    const answers: Awaited<ReturnType<typeof knock>>[] = [];
    let ended = 0;
    const reading = Promise.all(streams.map((stream) => stream.text.finally(() => (ended += 1))));
    reading.catch(() => {});
    await until(
      "the streams have ended, and the new master serves",
      async () => {
        answers.push(...(await Promise.all(Array.from({ length: 3 }, () => knock(system)))));
        return ended === streams.length && answers.slice(-3).every(({ status }) => status === 200);
      },
      { timeoutMs: 60_000, everyMs: 50 },
    );
    for (const text of await reading) expect(text).toBe(words(60));
    const refused = answers.filter(({ status }) => status !== 200);
    expect(refused.length).toBeGreaterThan(0);
    for (const each of refused)
      expect(each).toMatchObject({ status: 503, retryAfter: expect.stringMatching(/^\d+$/) as string });
    // Each answer is paid once, and what a client was refused costs nothing. The books of the user and of the accounts balance.
    await expectBooks(system, 1 + streams.length + answers.length - refused.length);
  });
});
