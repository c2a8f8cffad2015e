// The command line against a real server whose services answer what the test says.
import { create } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  AccessService,
  type CreateApiKeyRequest,
  type CreateUserRequest,
  type ListUsageRequest,
  type Tier,
} from "#gen/drawbridge/v1/access_service";
import { FleetService } from "#gen/drawbridge/v1/fleet_service";
import { End, UsageEntrySchema } from "#gen/drawbridge/v1/usage";
import { DrawbridgeError } from "../../../services/kit/errors.ts";
import { silentLog } from "../../../services/kit/log.ts";
import { mount, type RpcServer, startRpcServer } from "../../../services/kit/rpc/server.ts";
import { now, runWords, type Surroundings } from "./terminal.ts";

const adminKey = "admin-0123456789";
let server: RpcServer;
let environment: Record<string, string>;

/** What the services were asked last. */
const asked: {
  user?: CreateUserRequest;
  key?: CreateApiKeyRequest;
  usage: ListUsageRequest[];
  tier?: Tier;
} = { usage: [] };

/** Whether something happens in the fleet. */
let telling = false;

/** The ledger's size. */
const entryCount = 2_500;

const access: Partial<ServiceImpl<typeof AccessService>> = {
  createUser(request) {
    asked.user = request;
    return { user: { id: request.id, tier: "default", quota: { granted: request.quotaMicros } } };
  },
  getUser({ id }) {
    if (id === "slow") return new Promise(() => {});
    if (id === "broken") throw new Error("a secret of the server");
    if (id === "nobody") throw new DrawbridgeError("NOT_FOUND", 'There is no user "nobody".');
    return { user: { id, tier: "default" } };
  },
  createApiKey(request) {
    asked.key = request;
    return { key: { id: "key_1", userId: request.userId }, secret: "sk-secret" };
  },
  listTiers: () => ({ tiers: [{ name: "batch", requestsPerMinute: 5n, ratioPermille: 250n }] }),
  setTier({ tier }) {
    if (tier) asked.tier = tier;
    return tier ? { tier } : {};
  },
  listUsage(request) {
    asked.usage.push(request);
    const from = Number(request.pageToken || 0);
    const to = Math.min(entryCount, from + request.pageSize);
    const entries = Array.from({ length: to - from }, (_, index) =>
      create(UsageEntrySchema, { requestId: `req_${from + index}`, userId: "alice", end: End.FINISHED }),
    );
    return { entries, nextPageToken: to < entryCount ? String(to) : "" };
  },
};

const fleet: Partial<ServiceImpl<typeof FleetService>> = {
  getStatus: () => ({ leader: "controller-1" }),
  async *watchEvents(_request, { signal }) {
    if (!telling) return;
    const message = "Replaces kiro-1-1.\u001b[2J";
    yield { event: { revision: 7n, type: "WorkerCreated", accountId: "kiro-1", workerId: "kiro-1-1", message } };
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
  },
  drainWorker: () => ({ inFlight: 2 }),
};

beforeAll(async () => {
  server = await startRpcServer({
    listen: { host: "127.0.0.1", port: 0 },
    services: [mount(AccessService, access), mount(FleetService, fleet)],
    authorize({ header }) {
      if (header.get("authorization") === `Bearer ${adminKey}`) return;
      throw new DrawbridgeError("UNAUTHENTICATED", "The admin key is not known.");
    },
    ready: () => true,
    log: silentLog,
  });
  environment = { DRAWBRIDGE_URL: server.address, DRAWBRIDGE_ADMIN_KEY: adminKey };
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

/** Runs it as an operator of the server would. */
function drawbridge(words: readonly string[], surroundings: Surroundings = {}) {
  return runWords(words, { ...surroundings, environment: { ...environment, ...surroundings.environment } });
}

describe("a command", () => {
  it("prints columns for people and JSON for scripts", async () => {
    const create = ["user", "create", "--id", "alice", "--quota", "1.50"];
    const { code, output, errors } = await drawbridge(create);
    expect([code, errors]).toEqual([0, ""]);
    expect(output).toBe(
      "user       alice\ntier       default\ngranted    $1.50\navailable  $0.00\nheld       $0.00\nspent      $0.00\nbudget     -\nstate      active\n",
    );
    expect(asked.user).toMatchObject({ id: "alice", tier: "", quotaMicros: 1_500_000n });
    const json = await drawbridge([...create, "--tier", "batch", "--json"]);
    expect(json.output).toBe('{"id":"alice","granted":1500000,"available":0,"held":0,"spent":0}\n');
    expect(asked.user?.tier).toBe("batch");
  });

  it("sends every flag of a new key", async () => {
    const flags = ["--name", "ci", "--expires", "30d", "--models", "a,b", "--budget", "0", "--allow", "10.0.0.0/8,::1"];
    await drawbridge(["key", "create", "--user", "alice", ...flags]);
    expect(asked.key).toMatchObject({
      userId: "alice",
      name: "ci",
      models: ["a", "b"],
      allowedAddresses: ["10.0.0.0/8", "::1"],
      budgetMicros: 0n,
    });
    expect(asked.key?.expiresAt && timestampMs(asked.key.expiresAt)).toBe(now + 30 * 86_400_000);

    await drawbridge(["key", "create", "--user", "alice"]);
    expect(asked.key).toMatchObject({ name: "", models: [], allowedAddresses: [] });
    expect([asked.key?.budgetMicros, asked.key?.expiresAt]).toEqual([undefined, undefined]);
  });

  it("changes of a tier only what is named", async () => {
    await drawbridge(["tier", "set", "batch", "--rpm", "60"]);
    expect(asked.tier).toMatchObject({ name: "batch", requestsPerMinute: 60n, concurrency: 0n, ratioPermille: 250n });
    await drawbridge(["tier", "set", "new", "--ratio", "0.5"]);
    expect(asked.tier).toMatchObject({ name: "new", requestsPerMinute: 600n, concurrency: 32n, ratioPermille: 500n });
  });

  it("says what it did where there is no object to show", async () => {
    const drain = ["worker", "drain", "w-1"];
    expect((await drawbridge(drain)).output).toBe("Worker w-1 drains; 2 prompts finish first.\n");
    expect((await drawbridge([...drain, "--json"])).output).toBe('{"id":"w-1","in_flight":2}\n');
  });
});

describe("a long list", () => {
  it("comes whole, page by page", async () => {
    const { output } = await drawbridge(["usage", "--since", "1h", "--json"]);
    const ids = (JSON.parse(output) as { request_id: string }[]).map((row) => row.request_id);
    expect(ids).toEqual(Array.from({ length: entryCount }, (_, index) => `req_${index}`));
    const since = asked.usage.at(-1)?.since;
    expect(since && timestampMs(since)).toBe(now - 3_600_000);
  });

  it.each([1, 1_000, 1_500])("ends at --limit %d", async (limit) => {
    const { output } = await drawbridge(["usage", "--limit", String(limit), "--json"]);
    expect(JSON.parse(output)).toHaveLength(limit);
  });

  it("has its titles once for people", async () => {
    const { output } = await drawbridge(["usage"]);
    const lines = output.trimEnd().split("\n");
    expect(lines).toHaveLength(entryCount + 1);
    expect(lines.filter((line) => line.startsWith("TIME"))).toHaveLength(1);
  });

  it("stops without a word when its reader has gone", async () => {
    asked.usage.length = 0;
    const { code, errors } = await drawbridge(["usage"], { readerLeavesAfter: 1 });
    expect([code, errors]).toEqual([0, ""]);
    expect(asked.usage.length).toBeLessThan(3);
  });
});

describe("status --watch", () => {
  it("shows it again and again, a JSON object a line", async () => {
    const { code, output } = await drawbridge(["status", "--watch", "--json"], { readerLeavesAfter: 3 });
    expect(code).toBe(0);
    const lines = output.trimEnd().split("\n");
    expect(lines.map((line) => JSON.parse(line) as object)).toEqual(
      Array.from({ length: 3 }, () => ({ leader: "controller-1", workers: [], accounts: [], events: [] })),
    );
  });

  it("tells what happens, once", async () => {
    telling = true;
    try {
      const shown = await drawbridge(["status", "--watch"], { readerLeavesAfter: 200 });
      expect(shown.output.match(/WorkerCreated +kiro-1 +kiro-1-1 +Replaces kiro-1-1\. \[2J/g)).toHaveLength(1);
      const { output } = await drawbridge(["status", "--watch", "--json"], { readerLeavesAfter: 200 });
      const lines = output.trimEnd().split("\n");
      const events = lines.flatMap((line) => (JSON.parse(line) as { events: object[] }).events);
      expect(events).toMatchObject([{ revision: 7, type: "WorkerCreated", account: "kiro-1", worker: "kiro-1-1" }]);
    } finally {
      telling = false;
    }
  });

  it("sends no control characters where no terminal is", async () => {
    const { output } = await drawbridge(["status", "--watch"], { readerLeavesAfter: 3 });
    expect(output).toContain("leader  controller-1\n");
    expect(output).not.toMatch(/[^\P{Cc}\n]/u);
  });
});

describe("a failure is one line on standard error, with exit code 1", () => {
  async function failure(words: readonly string[], surroundings?: Surroundings): Promise<string> {
    const { code, output, errors } = await drawbridge(words, surroundings);
    expect([code, output]).toEqual([1, ""]);
    expect(errors).toMatch(/^drawbridge: [^\n]+\n$/);
    return errors;
  }

  it("in the server's words", async () => {
    expect(await failure(["user", "get", "nobody"])).toBe('drawbridge: There is no user "nobody".\n');
  });

  it("of the contract's rules", async () => {
    expect(await failure(["user", "get", ""])).toContain("id:");
  });

  it("of a key that is not known: which one it was", async () => {
    const errors = await failure(["status"], { environment: { DRAWBRIDGE_ADMIN_KEY: "wrong" } });
    expect(errors).toContain("admin key of DRAWBRIDGE_ADMIN_KEY: The admin key is not known.");
    expect(errors).toContain(server.address);
  });

  it("of the server itself, without its secrets", async () => {
    const errors = await failure(["user", "get", "broken"]);
    expect(errors).toContain("Its log says why.");
    expect(errors).not.toContain("secret");
  });

  it("where nothing listens", async () => {
    const errors = await failure(["status"], { environment: { DRAWBRIDGE_URL: "http://127.0.0.1:9" } });
    expect(errors).toBe(
      "drawbridge: Nothing answers at http://127.0.0.1:9 (ECONNREFUSED). Start it with `drawbridge up`, or set DRAWBRIDGE_URL.\n",
    );
  });

  it("where something else listens", async () => {
    const other = createServer((_, response) => response.end("<html>"));
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    try {
      const url = `http://127.0.0.1:${(other.address() as AddressInfo).port}`;
      expect(await failure(["status"], { environment: { DRAWBRIDGE_URL: url } })).toContain("is not Drawbridge");
    } finally {
      other.closeAllConnections();
      await new Promise((resolve) => other.close(resolve));
    }
  });

  it("where no answer comes in time", async () => {
    expect(await failure(["user", "get", "slow", "--timeout", "50ms"])).toContain("no answer within 0.05 s");
  });

  it("where the configuration file is not there", async () => {
    expect(await failure(["apply", "-f", "no-such-file.yaml"])).toContain("no-such-file.yaml");
  });
});

describe("wrong usage is one line on standard error, with exit code 2", () => {
  it.each([
    [["user", "create", "--id", "dave", "--quota", "-1"], "negative"],
    [["user", "create", "--id", "dave", "--quota", "much"], "quota"],
    [["user", "create", "--id", "dave"], "--quota"],
    [["user", "grant", "dave", "0"], "more than 0"],
    [["user", "grant", "dave", "-5"], "negative"],
    [["account", "grant", "a-1", "0.0001"], "at most 3 decimals"],
    [["key", "create", "--user", "dave", "--expires", "soon"], "expires"],
    [["key", "create", "--user", "dave", "--models", "a,,b"], "models"],
    [["usage", "--since", "yesterday"], "since"],
    [["usage", "--limit", "0"], "limit"],
    [["status", "--timeout", "0s"], "timeout"],
    [["user", "get"], "id"],
    [["user", "get", "a", "b"], "too many"],
    [["user", "gett", "a"], "Did you mean get?"],
    [["usr"], "Did you mean user?"],
    [["status", "--jsn"], "--jsn"],
    [["explain"], "--model"],
    [["apply"], "--file"],
    [["worker", "unheard-of"], "unheard-of"],
  ])("%j", async (words, why) => {
    const { code, output, errors } = await drawbridge(words);
    expect([code, output]).toEqual([2, ""]);
    expect(errors).toMatch(/^drawbridge: [^\n]+\n$/);
    expect(errors).toContain(why);
  });

  it("no command at all shows the help there", async () => {
    const { code, output, errors } = await drawbridge([]);
    expect([code, output]).toEqual([2, ""]);
    expect(errors).toContain("Usage: drawbridge");
  });
});

describe("--help", () => {
  it("names every command, and is no failure", async () => {
    const { code, output, errors } = await runWords(["--help"]);
    expect([code, errors]).toEqual([0, ""]);
    const names = [...output.matchAll(/^ {2}([a-z]+)/gm)].map((match) => match[1]);
    expect(names).toEqual(
      expect.arrayContaining(
        "up gateway scheduler registry controller worker status account plan apply explain breaker user key usage tier price channel".split(
          " ",
        ),
      ),
    );
  });

  it.each([["user", "create"], ["usage"], ["worker", "drain"], ["apply"]])(
    "of a client command has examples, and the options that all have: %s",
    async (...words) => {
      const { code, output } = await runWords([...words, "--help"]);
      expect(code).toBe(0);
      expect(output).toContain(`Examples:\n  drawbridge ${words.join(" ")}`);
      for (const option of ["--json", "--url", "--admin-key-file", "--timeout"])
        expect(output).toContain(`  ${option} `);
    },
  );

  it("to a reader that has gone is no failure either", async () => {
    const { code, errors } = await runWords(["--help"], { readerLeavesAfter: 0 });
    expect([code, errors]).toEqual([0, ""]);
  });
});
