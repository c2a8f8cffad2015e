// Leases: places for prompts, with the credits that they reserve.
import type { Outcome } from "#gen/drawbridge/v1/usage";
import type { LeaseRecord, LeaseRequest, LeaseResult, LeaseSettlement, LeaseStore } from "../state.ts";
import { leaseCharge } from "../charges.ts";
import { checkLeaseRequest } from "../checks.ts";
import { breakerRevision, findBreaker, writeBreaker } from "./breakers.ts";
import type { Changes } from "./changes.ts";
import { addCredits, creditsOf } from "./credits.ts";
import type { Database, Row } from "./database.ts";
import type { GroupCommit } from "./group-commit.ts";

/** Settled leases are remembered so long, so that a late report finds its attempt settled, in ms. */
const settledKeepMs = 24 * 3_600_000;
/** Old rows that one settlement clears away at most. */
const clearLimit = 8;

export function createLeaseStore(
  database: Database,
  commits: GroupCommit,
  accountChanges: Changes,
  breakerChanges: Changes,
): LeaseStore {
  const find = (accountId: string, attemptId: string) =>
    database.get("SELECT * FROM leases WHERE account_id = ? AND attempt_id = ?", accountId, attemptId);

  return {
    async acquire(request) {
      checkLeaseRequest(request);
      const result = await commits.run(() => acquire(database, request, find(request.accountId, request.attemptId)));
      if (result.acquired && result.breaker) breakerChanges.notify();
      return result;
    },

    async settle(outcome, now) {
      const settlement = await commits.run(() =>
        settle(database, outcome, now, find(outcome.accountId, outcome.attemptId)),
      );
      // Of all the changes of a balance, its end is the one that others act on at once.
      if (settlement.settled && settlement.credits?.available === 0n) accountChanges.notify();
      return settlement;
    },

    async renew(accountId, attemptIds, expiresAt) {
      if (attemptIds.length === 0) return;
      await commits.run(() => {
        for (const attemptId of attemptIds) {
          database.run(
            "UPDATE leases SET expires_at = ? WHERE account_id = ? AND attempt_id = ? AND settled_at IS NULL",
            expiresAt,
            accountId,
            attemptId,
          );
        }
      });
    },

    expired: async (now, limit) =>
      database
        .all(
          "SELECT * FROM leases WHERE settled_at IS NULL AND expires_at <= ? ORDER BY expires_at LIMIT ?",
          now,
          limit,
        )
        .map(leaseOf),

    open: async (accountId) =>
      database
        .all("SELECT * FROM leases WHERE settled_at IS NULL AND account_id = ? ORDER BY attempt_id", accountId)
        .map(leaseOf),
  };
}

function acquire(database: Database, request: LeaseRequest, known: Row | undefined): LeaseResult {
  const refuse = (refused: Extract<LeaseResult, { acquired: false }>["refused"]) =>
    ({ acquired: false, refused }) as const;
  if (known?.["settled_at"] != null) return refuse("settled");
  if (known)
    return { acquired: true, lease: leaseOf(known), credits: creditsOf(database, String(known["account_id"])) };

  const { accountId, accountRevision, breaker } = request;
  const account = database.get(
    "SELECT spec ->> '$.drained' AS drained, revision FROM accounts WHERE id = ?",
    accountId,
  );
  if (!account) return refuse("unknown_account");
  if (account["drained"] === 1) return refuse("drained");
  if (accountRevision !== undefined && account["revision"] !== accountRevision) return refuse("changed");
  if (breaker && breaker.revision !== breakerRevision(database, accountId)) {
    const known = findBreaker(database, accountId);
    return { ...refuse("breaker"), ...(known ? { breaker: known } : {}) };
  }

  const open = database.get(
    "SELECT count(*) AS count FROM leases WHERE settled_at IS NULL AND account_id = ? AND worker_id = ? AND expires_at > ?",
    request.accountId,
    request.workerId,
    request.now,
  );
  const openBefore = Number(open?.["count"]);
  if (openBefore >= request.capacity) return refuse("full");

  const available = Number(creditsOf(database, request.accountId).available);
  if (available < request.millicredits) return refuse("exhausted");

  const row = database.get(
    `INSERT INTO leases (attempt_id, request_id, account_id, worker_id, worker_incarnation, model, millicredits, expires_at)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING *`,
    request.attemptId,
    request.requestId,
    request.accountId,
    request.workerId,
    request.workerIncarnation,
    request.model,
    request.millicredits,
    request.expiresAt,
  );
  const held = request.millicredits;
  const credits = addCredits(database, request.accountId, { available: -held, held });
  return {
    acquired: true,
    lease: leaseOf(row as Row),
    credits,
    open: openBefore + 1,
    ...(breaker?.next ? { breaker: writeBreaker(database, breaker.next) } : {}),
  };
}

function settle(database: Database, outcome: Outcome, now: number, known: Row | undefined): LeaseSettlement {
  if (!known) return { settled: false, millicredits: 0, credits: undefined };
  const accountId = String(known["account_id"]);
  if (known["settled_at"] != null) {
    return { settled: false, millicredits: Number(known["charged"]), credits: creditsOf(database, accountId) };
  }
  const held = Number(known["millicredits"]);
  const charge = leaseCharge(outcome, held, Number(creditsOf(database, accountId).available));
  const credits = addCredits(database, accountId, { available: held - charge, held: -held, spent: charge });
  database.run(
    "UPDATE leases SET settled_at = ?, charged = ? WHERE account_id = ? AND attempt_id = ?",
    now,
    charge,
    accountId,
    outcome.attemptId,
  );
  database.run(
    `DELETE FROM leases WHERE (account_id, attempt_id) IN
       (SELECT account_id, attempt_id FROM leases WHERE settled_at < ? ORDER BY settled_at LIMIT ?)`,
    now - settledKeepMs,
    clearLimit,
  );
  return { settled: true, millicredits: charge, credits };
}

function leaseOf(row: Row): LeaseRecord {
  return {
    attemptId: String(row["attempt_id"]),
    requestId: String(row["request_id"]),
    accountId: String(row["account_id"]),
    workerId: String(row["worker_id"]),
    workerIncarnation: String(row["worker_incarnation"]),
    model: String(row["model"]),
    millicredits: Number(row["millicredits"]),
    expiresAt: Number(row["expires_at"]),
  };
}
