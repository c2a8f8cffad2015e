// Who may do what, against the embedded store in memory.
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { AccessService, AdminRole } from "#gen/drawbridge/v1/access_service";
import { authorizeAdmin } from "../../../services/gateway/access/admin.ts";
import { type Authenticator, createAuthenticator } from "../../../services/gateway/access/authenticate.ts";
import { ensureAccess } from "../../../services/gateway/access/bootstrap.ts";
import { createAccessHandlers } from "../../../services/gateway/access/handlers.ts";
import { createDescribe } from "../../../services/gateway/channels/manage/describe.ts";
import { tiersSetting } from "../../../services/gateway/config.ts";
import { silentLog } from "../../../services/kit/log.ts";
import { localClient } from "../../../services/kit/rpc/local.ts";
import { openState } from "../../../services/state/open.ts";
import type { State } from "../../../services/state/state.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

const clock = new VirtualClock();
const pepper = "pepper";
const unset = { apiKey: undefined, adminKey: undefined, keyPepper: pepper };

let state: State;
let authenticator: Authenticator;
const describeChannels = createDescribe({ fleetModels: async () => [], status: () => undefined });
const access = () => {
  const channels = { channels: state.channels, describe: describeChannels, refresh: async () => {}, clock };
  return localClient(AccessService, createAccessHandlers({ state, channels, clock, pepper }));
};

beforeEach(async () => {
  state = await openState("sqlite::memory:", { log: silentLog });
  for (const tier of tiersSetting.parse(undefined)) await state.access.setTier(tier);
  authenticator = createAuthenticator({ access: state.access, clock, pepper });
});

afterEach(async () => {
  authenticator[Symbol.dispose]();
  await state[Symbol.asyncDispose]();
});

const enter = (secret: string | undefined, address = "192.0.2.1") =>
  authenticator.authenticate(secret === undefined ? undefined : `Bearer ${secret}`, address);
const refused = { reason: "UNAUTHENTICATED" };

async function newKey(fields: object = {}): Promise<{ id: string; secret: string }> {
  if (!(await state.access.getUser("ada"))) await access().createUser({ id: "ada", quotaMicros: 1n });
  const { key, secret } = await access().createApiKey({ userId: "ada", ...fields });
  return { id: key?.id ?? "", secret };
}

describe("an API key", () => {
  it("opens for its user", async () => {
    const { secret } = await newKey({ models: ["m"] });
    expect(await enter(secret)).toMatchObject({ userId: "ada", tierName: "default", key: { models: ["m"] } });
  });

  it("opens no longer when it was revoked, also where it was just used", async () => {
    const { id, secret } = await newKey();
    await enter(secret);
    await access().revokeApiKey({ id });
    await clock.advance(1_000);
    await expect(enter(secret)).rejects.toMatchObject(refused);
  });

  it("opens until it expires", async () => {
    const { secret } = await newKey({ expiresAt: timestampFromMs(clock.now() + 500) });
    await enter(secret);
    await clock.advance(500);
    await expect(enter(secret)).rejects.toMatchObject(refused);
  });

  it("opens only from where it may", async () => {
    const { secret } = await newKey({ allowedAddresses: ["10.0.0.0/8"] });
    expect(await enter(secret, "10.1.2.3")).toMatchObject({ userId: "ada" });
    await expect(enter(secret, "192.0.2.1")).rejects.toMatchObject(refused);
  });

  it("tells nothing about others", async () => {
    const { secret } = await newKey();
    const { id, secret: ended } = await newKey();
    await access().revokeApiKey({ id });
    const messages = await Promise.all(
      [ended, `${secret}x`, "sk-unheard-of"].map((each) => enter(each).catch((error: Error) => error.message)),
    );
    expect(new Set(messages)).toEqual(new Set(["Incorrect API key provided."]));
  });

  it.each([undefined, "", "Basic YTpi", "Bearer", "Bearer ", "Bearer a b"])(
    "is no header such as %j",
    async (header) => {
      await expect(authenticator.authenticate(header, "192.0.2.1")).rejects.toMatchObject(refused);
    },
  );

  it("does not open under another pepper", async () => {
    const { secret } = await newKey();
    using other = createAuthenticator({ access: state.access, clock, pepper: "another" });
    await expect(other.authenticate(`Bearer ${secret}`, "192.0.2.1")).rejects.toMatchObject(refused);
  });
});

describe("an admin key", () => {
  const admin = (secret: string | undefined) =>
    authorizeAdmin({
      access: state.access,
      authorization: secret === undefined ? undefined : `Bearer ${secret}`,
      pepper,
      role: AdminRole.ADMIN,
    });

  it("administrates, and an API key does not", async () => {
    const { adminKey = "" } = await ensureAccess({ state, settings: unset, now: clock.now() });
    await expect(admin(adminKey)).resolves.toMatchObject({ role: AdminRole.ADMIN });
    await expect(admin((await newKey()).secret)).rejects.toMatchObject({ reason: "PERMISSION_DENIED" });
    await expect(admin("sk-admin-unheard-of")).rejects.toMatchObject(refused);
    await expect(admin(undefined)).rejects.toMatchObject(refused);
  });

  it("asks for no answer", async () => {
    const { adminKey } = await ensureAccess({ state, settings: unset, now: clock.now() });
    await expect(enter(adminKey)).rejects.toMatchObject(refused);
  });
});

describe("the first start", () => {
  it("makes a user with ten dollars, a key and an admin key, once", async () => {
    const first = await ensureAccess({ state, settings: unset, now: clock.now() });
    expect(await enter(first.apiKey)).toMatchObject({ userId: "default" });
    expect((await state.access.getUser("default"))?.quota).toMatchObject({
      granted: 10_000_000n,
      available: 10_000_000n,
    });
    const second = await ensureAccess({ state, settings: unset, now: clock.now() });
    expect(second).toEqual({ apiKey: undefined, adminKey: undefined });
    expect(await state.access.listKeys(undefined, "", 10)).toHaveLength(1);
  });

  it("takes the keys that are set instead, at later starts too", async () => {
    await ensureAccess({ state, settings: unset, now: clock.now() });
    const settings = { apiKey: "sk-mine-0123456789", adminKey: "sk-admin-mine-0123456789", keyPepper: pepper };
    for (let start = 0; start < 2; start++) {
      expect(await ensureAccess({ state, settings, now: clock.now() })).toEqual({
        apiKey: settings.apiKey,
        adminKey: settings.adminKey,
      });
    }
    expect(await enter(settings.apiKey)).toMatchObject({ userId: "default" });
    expect(await state.access.listKeys(undefined, "", 10)).toHaveLength(2);
    // Only the first start grants.
    expect((await state.access.getUser("default"))?.quota?.granted).toBe(10_000_000n);
  });

  it("takes the keys that are set where several gateways start at the same time", async () => {
    const settings = { apiKey: "sk-mine-0123456789", adminKey: "sk-admin-mine-0123456789", keyPepper: pepper };
    await Promise.all(
      Array.from({ length: 4 }, () => ensureAccess({ state, settings, make: false, now: clock.now() })),
    );
    expect(await enter(settings.apiKey)).toMatchObject({ userId: "default" });
    expect(await state.access.listKeys(undefined, "", 10)).toHaveLength(1);
    expect((await state.access.getUser("default"))?.quota?.granted).toBe(10_000_000n);
  });

  it("takes a variable that is set to nothing for one that is not set", async () => {
    const { apiKey } = await ensureAccess({ state, settings: { ...unset, apiKey: "" }, now: clock.now() });
    expect(apiKey).toMatch(/^sk-/);
  });

  it.each([
    ["a key that no header can carry", { ...unset, apiKey: "two words" }, /DRAWBRIDGE_API_KEY/],
    ["a key that is guessed at once", { ...unset, adminKey: "admin" }, /DRAWBRIDGE_ADMIN_KEY/],
    ["one key for both", { ...unset, apiKey: "sk-0123456789", adminKey: "sk-0123456789" }, /are the same/],
  ])("refuses %s", async (_, settings, message) => {
    await expect(ensureAccess({ state, settings, now: clock.now() })).rejects.toThrow(message);
    expect(await state.access.initialized()).toBe(false);
  });
});

describe("AccessService", () => {
  it("grants once by a grant's id", async () => {
    await access().createUser({ id: "ada", quotaMicros: 5n });
    for (let count = 0; count < 2; count++) await access().grantQuota({ userId: "ada", quotaMicros: 7n, grantId: "g" });
    expect((await access().getUser({ id: "ada" })).user?.quota).toMatchObject({ granted: 12n, available: 12n });
  });

  it("shows a key's secret once", async () => {
    const { secret } = await newKey();
    const listed = await access().listApiKeys({ userId: "ada" });
    expect(listed.keys).toHaveLength(1);
    expect(secret.startsWith(listed.keys[0]?.prefix ?? "?")).toBe(true);
    expect(
      JSON.stringify(listed.keys[0], (_, value: unknown) => (typeof value === "bigint" ? String(value) : value)),
    ).not.toContain(secret);
  });

  it("pages", async () => {
    for (const id of ["a", "b", "c"]) await access().createUser({ id });
    const first = await access().listUsers({ pageSize: 2 });
    expect(first.users.map(({ id }) => id)).toEqual(["a", "b"]);
    const second = await access().listUsers({ pageSize: 2, pageToken: first.nextPageToken });
    expect(second).toMatchObject({ users: [{ id: "c" }], nextPageToken: "" });
  });

  it("names the one channel that there is", async () => {
    expect((await access().listChannels({})).channels).toMatchObject([{ id: "fleet", kind: "fleet", weight: 1 }]);
  });

  it.each([
    ["a tier that is not there", () => access().createUser({ id: "bob", tier: "gold" }), "NOT_FOUND"],
    ["a user that is not there", () => access().getUser({ id: "bob" }), "NOT_FOUND"],
    ["a user that is there", () => access().createUser({ id: "ada" }), "ALREADY_EXISTS"],
    ["a key for nobody", () => access().createApiKey({ userId: "bob" }), "NOT_FOUND"],
    ["a key that is not there", () => access().revokeApiKey({ id: "bob" }), "NOT_FOUND"],
    [
      "an address that is none",
      () => access().createApiKey({ userId: "ada", allowedAddresses: ["10/8"] }),
      "INVALID_ARGUMENT",
    ],
    [
      "an expiry that has passed",
      () => access().createApiKey({ userId: "ada", expiresAt: timestampFromMs(clock.now()) }),
      "INVALID_ARGUMENT",
    ],
  ])("refuses %s", async (_, call, reason) => {
    await newKey();
    await expect(call()).rejects.toMatchObject({ reason });
  });
});
