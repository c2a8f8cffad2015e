// Leases: places for prompts, with the credits that they reserve.
import { clone } from "@bufbuild/protobuf";
import { type Breaker, BreakerSchema } from "#gen/drawbridge/v1/account";
import { checkLeaseRequest } from "../checks.ts";
import { compareBytes } from "../paging.ts";
import { decode, encode } from "../records.ts";
import type { LeaseRecord, LeaseRequest, LeaseResult, LeaseStore } from "../state.ts";
import { balanceOf } from "./accounts.ts";
import { createActiveIndex } from "./active.ts";
import type { Changes } from "./changes.ts";
import type { Context } from "./context.ts";
import { scored, texts } from "./replies.ts";

/** A settled lease is remembered so long, so that a late report finds its attempt settled, in ms. */
const settledKeepMs = 3_600_000;

type Refusal = Extract<LeaseResult, { acquired: false }>["refused"];

export function createLeaseStore(context: Context, accountChanges: Changes, breakerChanges: Changes): LeaseStore {
  const { connection, keys } = context;
  const active = createActiveIndex({
    connection,
    index: keys.activeAccounts,
    openSet: keys.leases,
    everybody: ["SMEMBERS", keys.accounts],
  });
  const readLeases = createLeaseReader(context);

  return {
    async acquire(request) {
      checkLeaseRequest(request);
      await active.mark(request.accountId, request.now);
      const { accountId, attemptId, workerId } = request;
      const leaseKeys = [
        keys.books(accountId),
        keys.credits(accountId),
        keys.leases(accountId),
        keys.workerLeases(accountId, workerId),
        keys.lease(accountId, attemptId),
        keys.breaker(accountId),
      ];
      const next = breakerAfter(request);
      const args = [
        attemptId,
        request.now,
        request.expiresAt,
        request.millicredits,
        request.capacity,
        request.requestId,
        workerId,
        request.workerIncarnation,
        request.model,
        request.accountRevision ?? "",
        request.breaker === undefined ? "" : String(request.breaker.revision),
        next ? encode(BreakerSchema, next) : "",
      ];
      const result = leaseResult(request, texts(await connection.script("acquire-lease", leaseKeys, args)), next);
      if (result.acquired && result.breaker) breakerChanges.notify();
      return result;
    },

    async settle(outcome, _now) {
      const { accountId, attemptId } = outcome;
      const leaseKeys = [
        keys.books(accountId),
        keys.credits(accountId),
        keys.leases(accountId),
        keys.lease(accountId, attemptId),
      ];
      const reported = outcome.millicredits === undefined ? "" : String(outcome.millicredits);
      const args = [attemptId, reported, outcome.content ? "1" : "", settledKeepMs];
      const reply = await connection.script("settle-lease", leaseKeys, args);
      if (reply === null) return { settled: false, millicredits: 0, credits: undefined };
      const [verdict, charged, ...amounts] = texts(reply);
      const credits = balanceOf(amounts);
      const settled = verdict === "settled";
      // Of all the changes of a balance, its end is the one that others act on at once.
      if (settled && credits.available === 0n) accountChanges.notify();
      return { settled, millicredits: Number(charged), credits };
    },

    async renew(accountId, attemptIds, expiresAt) {
      if (attemptIds.length === 0) return;
      const leaseKeys = [keys.leases(accountId), ...attemptIds.map((id) => keys.lease(accountId, id))];
      await connection.script("renew-leases", leaseKeys, [expiresAt, ...attemptIds]);
    },

    async expired(now, limit) {
      const due = await active.due(now, limit);
      return readLeases(due.map(({ id, member, score }) => ({ accountId: id, attemptId: member, expiresAt: score })));
    },

    async open(accountId) {
      const open = scored(await connection.command("ZRANGE", keys.leases(accountId), 0, -1, "WITHSCORES"));
      const places = open.map(({ member, score }) => ({ accountId, attemptId: member, expiresAt: score }));
      return readLeases(places.toSorted((a, b) => compareBytes(a.attemptId, b.attemptId)));
    },
  };
}

/** The breaker that the lease writes, with its new revision. It is one that is stored, and so one that the list names. */
function breakerAfter({ breaker }: LeaseRequest): Breaker | undefined {
  if (!breaker?.next) return undefined;
  const next = clone(BreakerSchema, breaker.next);
  next.revision = breaker.revision + 1n;
  return next;
}

function leaseResult(
  request: LeaseRequest,
  reply: readonly (string | undefined)[],
  breaker: Breaker | undefined,
): LeaseResult {
  const [verdict, ...rest] = reply;
  if (verdict === "breaker") {
    const [record] = rest;
    return { acquired: false, refused: verdict, ...(record ? { breaker: decode(BreakerSchema, record) } : {}) };
  }
  const credits = balanceOf(rest.slice(0, 4));
  const asked = askedOf(request);
  if (verdict === "acquired") {
    return { acquired: true, lease: asked, credits, open: Number(rest[4]), ...(breaker ? { breaker } : {}) };
  }
  if (verdict !== "known") return { acquired: false, refused: verdict as Refusal };
  const [expiresAt, ...fields] = rest.slice(4);
  return { acquired: true, lease: leaseOf({ ...asked, expiresAt: Number(expiresAt) }, fields), credits };
}

function askedOf(request: LeaseRequest): LeaseRecord {
  const { capacity: _capacity, now: _now, accountRevision: _revision, breaker: _breaker, ...asked } = request;
  return asked;
}

type Place = Pick<LeaseRecord, "accountId" | "attemptId" | "expiresAt">;

/** Reads the records of open leases; one that was settled meanwhile is left out. */
function createLeaseReader({ connection, keys }: Context) {
  return async (places: readonly Place[]): Promise<LeaseRecord[]> => {
    const records = await connection.together(
      places.map(({ accountId, attemptId }) => [
        "HMGET",
        keys.lease(accountId, attemptId),
        "credits",
        "request",
        "worker",
        "incarnation",
        "model",
      ]),
    );
    return places.flatMap((place, index) => {
      const fields = texts(records[index]);
      return fields[0] === undefined ? [] : [leaseOf(place, fields)];
    });
  };
}

/** credits, request, worker, incarnation, model */
function leaseOf({ accountId, attemptId, expiresAt }: Place, fields: readonly (string | undefined)[]): LeaseRecord {
  const [credits, requestId = "", workerId = "", workerIncarnation = "", model = ""] = fields;
  return {
    attemptId,
    requestId,
    accountId,
    workerId,
    workerIncarnation,
    model,
    millicredits: Number(credits),
    expiresAt,
  };
}
