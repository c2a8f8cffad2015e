// Every key of the Valkey store, and nothing else that knows their names.
//
// The braces are hash tags: the keys of one entity share a slot of a cluster, so that one script may use them together. Ids are hostile (they may
// hold braces, colons, anything), so inside a tag "%", "{" and "}" are percent-encoded: no id can end its tag early, and two ids never make
// one key. What follows the tag needs no encoding, since nothing follows it. `docs/state.md` says what each key holds.
import { DrawbridgeError } from "../kit/errors.ts";

export type Keys = ReturnType<typeof createKeys>;

/** `prefix` stands before every key and channel, so that several systems can share one store. */
export function createKeys(prefix: string) {
  const of = (kind: string, id: string) => `${prefix}${kind}:${tag(id)}`;
  return {
    // Workers. A pod is a worker.
    pod: (id: string) => of("pod", id),
    modelPods: (model: string) => `${of("model", model)}:pods`,
    podIndex: of("index", "pods"),
    podRevision: of("revision", "pods"),

    // Accounts: one slot each.
    accounts: `${prefix}accounts`,
    account: (id: string) => of("account", id),
    conditions: (id: string) => of("conditions", id),
    credits: (id: string) => of("credits", id),
    books: (id: string) => of("books", id),
    creditGrants: (id: string) => of("credit-grants", id),
    leases: (id: string) => of("leases", id),
    workerLeases: (id: string, workerId: string) => `${of("leases", id)}:${workerId}`,
    lease: (id: string, attemptId: string) => `${of("lease", id)}:${attemptId}`,
    activeAccounts: `${prefix}active:accounts`,
    breakers: `${prefix}breakers`,
    breaker: (id: string) => of("cb", id),

    // Users: one slot each.
    users: `${prefix}users`,
    user: (id: string) => of("user", id),
    quotaGrants: (id: string) => of("quota-grants", id),
    userKeys: (id: string) => of("keys", id),
    key: (id: string, keyId: string) => `${of("key", id)}:${keyId}`,
    holds: (id: string) => of("holds", id),
    keyHolds: (id: string, keyId: string) => `${of("holds", id)}:${keyId}`,
    hold: (id: string, requestId: string) => `${of("hold", id)}:${requestId}`,
    idempotency: (id: string, key: string) => `${of("idempotency", id)}:${key}`,
    usage: (id: string) => of("usage", id),
    entries: (id: string) => of("entries", id),
    activeUsers: `${prefix}active:users`,

    // The directory of API keys: one slot.
    keyOwners: of("owners", "keys"),
    keyHashes: of("hashes", "keys"),
    keyIds: of("ids", "keys"),
    adminKeys: `${prefix}admin-keys`,

    // Redemption codes: one slot.
    code: (id: string) => `${of("code", "codes")}:${id}`,
    codeHashes: of("hashes", "codes"),
    codeIds: of("ids", "codes"),
    tiers: `${prefix}tiers`,
    prices: `${prefix}prices`,
    channels: `${prefix}channels`,

    // Requests: one slot each.
    outcome: (requestId: string, attemptId: string) => `${of("outcome", requestId)}:${attemptId}`,
    finalOutcome: (requestId: string) => of("final", requestId),

    identity: `${prefix}identity`,
    events: `${prefix}events`,
    demand: (model: string) => of("demand", model),
    demandedModels: `${prefix}demanded:models`,

    // The lock has no braces, so the whole name is its tag; the epoch names it as its own.
    leader: `${prefix}leader:controller`,
    leaderEpoch: `${prefix}epoch:{${prefix}leader:controller}`,

    /** The Pub/Sub channel that says that something of a subject changed. */
    changes: (subject: string) => `${prefix}changed:${subject}`,
  };
}

function tag(id: string): string {
  if (id === "") throw new DrawbridgeError("INVALID_ARGUMENT", "An id is empty.");
  return `{${id.replace(/[%{}]/g, encodeURIComponent)}}`;
}
