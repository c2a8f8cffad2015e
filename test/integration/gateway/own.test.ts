// What users see of themselves, what they redeem, what admins of each role may do and export.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { AdminRole, BudgetWindow } from "#gen/drawbridge/v1/access_service";
import { createLog } from "../../../services/kit/log.ts";
import { until } from "../../support/until.ts";
import { admission, settlement, usageOf } from "../../conformance/state/given.ts";
import { adminKey, adminOf, type GatewayUnderTest, givenUser, model, startGatewayUnderTest } from "./harness.ts";

let gateway: GatewayUnderTest;
beforeEach(async () => {
  gateway = await startGatewayUnderTest();
});
afterEach(() => gateway[Symbol.asyncDispose]());

const get = async (path: string, apiKey: string) => {
  const answer = await gateway.request(path, { apiKey });
  return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
};

/** Settled requests of a user, one µ$ each, in the ledger. */
async function givenEntries(userId: string, count: number): Promise<void> {
  const [key] = await gateway.state.access.listKeys(userId, "", 1);
  const now = Date.now();
  for (let index = 0; index < count; index++) {
    const whose = { userId, requestId: `req, "${index}"`, now: now + index };
    await gateway.state.ledger.admit(
      admission({ ...whose, keyId: key?.id ?? "", holdMicros: 1, expiresAt: now + 60_000 }),
    );
    await gateway.state.ledger.settle(settlement({ ...whose, costMicros: 1, usage: usageOf(1, 2) }));
  }
}

describe("a user", () => {
  it("sees balance, budget, limits and usage, of themselves only", async () => {
    const key = await givenUser(gateway, "ada", { quotaMicros: 1_000 });
    await givenUser(gateway, "bob", { quotaMicros: 1_000 });
    await gateway.state.access.updateUser("ada", { budget: { micros: 500, window: BudgetWindow.DAY } }, Date.now());
    await givenEntries("ada", 3);
    await givenEntries("bob", 1);
    const { status, body } = await get("/v1/usage?limit=2", key);
    expect(status).toBe(200);
    expect(body).toMatchObject({
      object: "usage",
      user: {
        id: "ada",
        granted: 1_000,
        available: 997,
        held: 0,
        spent: 3,
        budget: { amount: 500, per: "day", spent: 3 },
      },
      key: { spent: 3, budget: null },
      data: [{ user: "ada", cost: 1, output_tokens: 2 }, { user: "ada" }],
    });
    expect(body["limits"]).toMatchObject({ requests: { limit: expect.any(Number) as number } });
    const rest = await get(`/v1/usage?limit=2&page_token=${String(body["next_page_token"])}`, key);
    expect(rest.body["data"]).toHaveLength(1);
    expect(rest.body["next_page_token"]).toBeNull();
    expect((await get("/v1/usage?limit=many", key)).status).toBe(400);
    expect((await get("/v1/usage", "sk-wrong")).status).toBe(401);
  });

  it.each(["/v1", ""])(
    "sees it in the form that tools of other gateways expect, under %s/dashboard",
    async (prefix) => {
      const key = await givenUser(gateway, "ada", { quotaMicros: 12_340_000 });
      await givenEntries("ada", 2);
      expect((await get(`${prefix}/dashboard/billing/subscription`, key)).body).toEqual({
        object: "billing_subscription",
        has_payment_method: true,
        soft_limit_usd: 12.34,
        hard_limit_usd: 12.34,
        system_hard_limit_usd: 12.34,
        access_until: 0,
      });
      const dates = "?start_date=2026-01-01&end_date=2026-12-31";
      expect((await get(`${prefix}/dashboard/billing/usage${dates}`, key)).body).toEqual({
        object: "list",
        total_usage: 0.0002,
      });
    },
  );

  it("redeems a code once, however it is typed", async () => {
    const access = adminOf(gateway.app);
    const key = await givenUser(gateway, "ada", { quotaMicros: 5 });
    const { codes } = await access.createCodes({ count: 2, quotaMicros: 7n, name: "batch" });
    const redeem = async (code: string) => {
      const answer = await gateway.request("/v1/redeem", { apiKey: key, body: { code } });
      return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
    };
    const [one, two] = codes;
    expect(await redeem(` ${one?.code.toLowerCase()} `)).toMatchObject({
      status: 200,
      body: { amount: 7, available: 12 },
    });
    expect(await redeem(one?.code ?? "")).toMatchObject({ status: 400, body: { error: { code: "code_used" } } });
    expect(await redeem("DB-NONSENSE")).toMatchObject({ status: 400, body: { error: { code: "code_unknown" } } });
    expect(await access.redeemCode({ code: two?.code ?? "", userId: "ada" })).toMatchObject({ quotaMicros: 7n });
    const listed = await access.listCodes({});
    expect(listed.codes.map(({ redeemedBy }) => redeemedBy)).toEqual(["ada", "ada"]);
    for (const { record, code } of codes) expect(code.startsWith(record?.prefix ?? "?")).toBe(true);
  });

  it("who is disabled is told so, and nothing else of them works", async () => {
    const key = await givenUser(gateway, "ada");
    await adminOf(gateway.app).updateUser({ user: { id: "ada", disabled: true }, updateMask: { paths: ["disabled"] } });
    const { status, body } = await get("/v1/models", key);
    expect({ status, code: (body["error"] as { code: string }).code }).toEqual({
      status: 403,
      code: "permission_denied",
    });
  });
});

describe("a key", () => {
  it("that is rotated works with both secrets until the grace is over", async () => {
    const access = adminOf(gateway.app);
    const before = await givenUser(gateway, "ada");
    const [key] = (await access.listApiKeys({ userId: "ada" })).keys;
    const rotated = await access.rotateApiKey({ id: key?.id ?? "", grace: { seconds: 60n } });
    for (const secret of [before, rotated.secret]) expect((await get("/v1/models", secret)).status).toBe(200);
    const again = await access.rotateApiKey({ id: key?.id ?? "" });
    expect((await get("/v1/models", before)).status).toBe(401);
    expect((await get("/v1/models", rotated.secret)).status).toBe(401);
    expect((await get("/v1/models", again.secret)).status).toBe(200);
  });

  it("with limits of its own says the tighter one", async () => {
    const access = adminOf(gateway.app);
    await givenUser(gateway, "ada");
    const { secret } = await access.createApiKey({ userId: "ada", limits: { requestsPerMinute: 2n } });
    const ask = () =>
      gateway.request("/v1/chat/completions", {
        apiKey: secret,
        body: { model, messages: [{ role: "user", content: "x" }] },
      });
    const first = await ask();
    expect(first.headers.get("x-ratelimit-limit-requests")).toBe("2");
    expect(first.headers.get("x-ratelimit-remaining-requests")).toBe("1");
    await ask();
    const third = await ask();
    expect(third.status).toBe(429);
    expect(((await third.json()) as { error: { message: string } }).error.message).toMatch(
      /for this API key: 2 requests/,
    );
  });

  it("is changed in what the mask names, and in nothing that cannot be", async () => {
    const access = adminOf(gateway.app);
    await givenUser(gateway, "ada");
    const [key] = (await access.listApiKeys({ userId: "ada" })).keys;
    const id = key?.id ?? "";
    const budget = { micros: 9n, window: BudgetWindow.MONTH };
    const changed = await access.updateApiKey({
      key: { id, budget, name: "not named" },
      updateMask: { paths: ["budget"] },
    });
    expect(changed.key).toMatchObject({ name: "", budgetMicros: 9n, budget: { window: BudgetWindow.MONTH } });
    for (const paths of [["user_id"], []]) {
      await expect(access.updateApiKey({ key: { id }, updateMask: { paths } })).rejects.toMatchObject({
        reason: "INVALID_ARGUMENT",
      });
    }
  });
});

describe("an admin key", () => {
  const asks = (secret: string, method: string) =>
    gateway.app.authorizeAdmin({
      service: "drawbridge.v1.AccessService",
      method,
      header: new Headers({ authorization: `Bearer ${secret}` }),
    });

  it("may do what its role may, until it is revoked", async () => {
    const access = adminOf(gateway.app);
    const reader = await access.createAdminKey({ role: AdminRole.READ_ONLY });
    const operator = await access.createAdminKey({ role: AdminRole.OPERATOR });
    for (const { secret } of [reader, operator]) {
      await expect(asks(secret, "ListUsage")).resolves.toBeUndefined();
      await expect(asks(secret, "GrantQuota")).rejects.toMatchObject({ reason: "PERMISSION_DENIED" });
    }
    await expect(asks(reader.secret, "DisableChannel")).rejects.toMatchObject({ reason: "PERMISSION_DENIED" });
    await expect(asks(operator.secret, "DisableChannel")).resolves.toBeUndefined();
    await access.revokeAdminKey({ id: reader.key?.id ?? "" });
    await expect(asks(reader.secret, "ListUsage")).rejects.toMatchObject({ reason: "UNAUTHENTICATED" });
  });

  it("with the role admin stays if it is the last one", async () => {
    const access = adminOf(gateway.app);
    const [last] = (await access.listAdminKeys({})).keys;
    await access.createAdminKey({ role: AdminRole.OPERATOR });
    await expect(access.revokeAdminKey({ id: last?.id ?? "" })).rejects.toMatchObject({ reason: "PERMISSION_DENIED" });
    await expect(asks(adminKey, "GrantQuota")).resolves.toBeUndefined();
  });
});

describe("the export", () => {
  it("streams the whole ledger as CSV and as JSON lines, to who may look", async () => {
    await givenUser(gateway, "ada");
    await givenUser(gateway, "bob");
    await givenEntries("ada", 1_203);
    await givenEntries("bob", 1);
    const { secret } = await adminOf(gateway.app).createAdminKey({ role: AdminRole.READ_ONLY });
    const csv = await gateway.request("/admin/usage?user=ada", { apiKey: secret });
    expect(csv.headers.get("content-type")).toBe("text/csv; charset=utf-8");
    const [head, first, ...rest] = (await csv.text()).trimEnd().split("\r\n");
    expect(head).toBe("request_id,user,key,model,account,input_tokens,output_tokens,source,cost,credits,end,at");
    expect(first).toMatch(/^"req, ""1202""",ada,key_/);
    expect(rest).toHaveLength(1_202);
    const lines = (await (await gateway.request("/admin/usage?format=jsonl", { apiKey: adminKey })).text())
      .trimEnd()
      .split("\n");
    expect(lines).toHaveLength(1_204);
    expect(JSON.parse(lines[0] ?? "")).toMatchObject({ cost: 1, end: "finished" });
    expect((await gateway.request("/admin/usage?format=xml", { apiKey: adminKey })).status).toBe(400);
    expect((await gateway.request("/admin/usage")).status).toBe(403);
    expect((await gateway.request("/admin/usage", { apiKey: null })).status).toBe(401);
  });
});

describe("the log", () => {
  it("has one line for each request, with who, what, how long and how much, and without prompt and key", async () => {
    const lines: string[] = [];
    const log = createLog({
      name: "test",
      level: "debug",
      destination: { write: (line: string) => void lines.push(line) },
    });
    await using logged = await startGatewayUnderTest({ log });
    const key = await givenUser(logged, "ada");
    const messages = [{ role: "user", content: "a word that nobody else says" }];
    const answer = await logged.request("/v1/chat/completions", { apiKey: key, body: { model, messages } });
    await answer.text();
    await logged.request("/v1/chat/completions?key=sk-in-the-address", {
      apiKey: "sk-wrong-key",
      body: { model, messages },
    });
    const requests = await until("both are logged", () => {
      const found = lines
        .map((line) => JSON.parse(line) as Record<string, unknown>)
        .filter(({ msg }) => msg === "request");
      return found.length === 2 && found;
    });
    expect(requests[0]).toMatchObject({
      request_id: answer.headers.get("x-request-id"),
      user: "ada",
      key_id: expect.stringMatching(/^key_/) as string,
      account: "a-1",
      channel: "fleet",
      route: "/v1/chat/completions",
      status: 200,
      model,
      end: "finished",
      inputTokens: 10,
      outputTokens: 5,
      costMicros: 510,
      durationMs: expect.any(Number) as number,
      firstContentMs: expect.any(Number) as number,
    });
    expect(requests[1]).toMatchObject({ status: 401 });
    for (const secret of [key, "sk-wrong-key", "sk-in-the-address", "nobody else says"]) {
      expect(lines.join("")).not.toContain(secret);
    }
  });
});
