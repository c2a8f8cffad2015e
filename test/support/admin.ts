// What operators ask of a running system, through the typed services behind the gateway's port: quick enough to be asked again and again.
// Rows have the form and the units of the client commands' JSON.
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { AccessService, type User } from "#gen/drawbridge/v1/access_service";
import { type Account, BreakerState } from "#gen/drawbridge/v1/account";
import { FleetService } from "#gen/drawbridge/v1/fleet_service";
import { type Decision, SchedulerService } from "#gen/drawbridge/v1/scheduler_service";
import { End, type UsageEntry, UsageSource } from "#gen/drawbridge/v1/usage";
import { Health, type Worker } from "#gen/drawbridge/v1/worker";
import { createDialer } from "../../services/kit/rpc/client.ts";

/** Amounts in millionths of a dollar. */
export interface UserRow {
  readonly id: string;
  readonly granted: number;
  readonly available: number;
  readonly held: number;
  readonly spent: number;
}

/** Amounts in thousandths of a credit. */
export interface AccountRow {
  readonly id: string;
  readonly granted: number;
  readonly credits: number;
  readonly held: number;
  readonly spent: number;
  readonly breaker: string;
  readonly workers: readonly string[];
}

export interface UsageRow {
  readonly request_id: string;
  readonly user: string;
  readonly model: string;
  readonly account: string;
  readonly input_tokens: number;
  readonly output_tokens: number;
  readonly source: string;
  /** Millionths of a dollar. */
  readonly cost: number;
  /** Thousandths of a credit. */
  readonly credits: number;
  readonly end: string;
}

export interface WorkerRow {
  readonly id: string;
  readonly pid: number;
  readonly health: string;
  readonly slots: number;
  readonly available_slots: number;
  readonly queue_depth: number;
}

export interface NewKey {
  readonly id: string;
  readonly key: string;
}

export interface KeyOptions {
  readonly models?: readonly string[];
  readonly allow?: readonly string[];
  readonly budgetMicros?: number;
  readonly expiresAt?: number;
}

export interface Admin extends AsyncDisposable {
  /** A new user, with a key. The quota is in dollars. */
  createUser(id: string, quota: number, tier?: string): Promise<NewKey>;
  createKey(user: string, options?: KeyOptions): Promise<NewKey>;
  revokeKey(id: string): Promise<void>;
  user(id: string): Promise<UserRow>;
  /** The ledger of a user, newest first. */
  usage(user: string): Promise<UsageRow[]>;
  accounts(): Promise<AccountRow[]>;
  workers(): Promise<WorkerRow[]>;
  /** Which controller leads: HOST/NAMESPACE/PID/RANDOM; empty: none. */
  leader(): Promise<string>;
  /** How the attempts of a request were decided. */
  decisions(requestId: string): Promise<Decision[]>;
}

export function createAdmin(url: string, adminKey: string): Admin {
  const dialer = createDialer({ token: adminKey });
  const access = dialer.client(AccessService, url, { unreachable: "STATE_UNAVAILABLE" });
  const fleet = dialer.client(FleetService, url, { unreachable: "STATE_UNAVAILABLE" });
  const scheduler = dialer.client(SchedulerService, url, { unreachable: "STATE_UNAVAILABLE" });

  const createKey: Admin["createKey"] = async (userId, { models = [], allow = [], budgetMicros, expiresAt } = {}) => {
    const { key, secret } = await access.createApiKey({
      userId,
      models: [...models],
      allowedAddresses: [...allow],
      ...(budgetMicros === undefined ? {} : { budgetMicros: BigInt(budgetMicros) }),
      ...(expiresAt === undefined ? {} : { expiresAt: timestampFromMs(expiresAt) }),
    });
    return { id: key?.id ?? "", key: secret };
  };
  return {
    createKey,
    async createUser(id, quota, tier = "default") {
      await access.createUser({ id, tier, quotaMicros: BigInt(Math.round(quota * 1_000_000)) });
      return await createKey(id);
    },
    async revokeKey(id) {
      await access.revokeApiKey({ id });
    },
    user: async (id) => userRow((await access.getUser({ id })).user),
    async usage(userId) {
      const rows: UsageRow[] = [];
      for (let pageToken = ""; ; ) {
        const page = await access.listUsage({ userId, pageToken });
        rows.push(...page.entries.map(usageRow));
        pageToken = page.nextPageToken;
        if (pageToken === "") return rows;
      }
    },
    accounts: async () => (await fleet.listAccounts({})).accounts.map(accountRow),
    decisions: async (requestId) => (await scheduler.explain({ requestId })).decisions,
    leader: async () => (await fleet.getStatus({})).leader,
    workers: async () => (await fleet.getStatus({})).workers.map(workerRow),
    [Symbol.asyncDispose]: () => dialer[Symbol.asyncDispose](),
  };
}

function userRow(user: User | undefined): UserRow {
  const { granted = 0n, available = 0n, held = 0n, spent = 0n } = user?.quota ?? {};
  return {
    id: user?.id ?? "",
    granted: Number(granted),
    available: Number(available),
    held: Number(held),
    spent: Number(spent),
  };
}

function accountRow({ spec, credits, breaker, workerIds }: Account): AccountRow {
  const { granted = 0n, available = 0n, held = 0n, spent = 0n } = credits ?? {};
  return {
    id: spec?.id ?? "",
    granted: Number(granted),
    credits: Number(available),
    held: Number(held),
    spent: Number(spent),
    breaker: nameOf(BreakerState, breaker?.state ?? BreakerState.CLOSED),
    workers: workerIds,
  };
}

function usageRow(entry: UsageEntry): UsageRow {
  return {
    request_id: entry.requestId,
    user: entry.userId,
    model: entry.model,
    account: entry.accountId,
    input_tokens: Number(entry.usage?.inputTokens ?? 0n),
    output_tokens: Number(entry.usage?.outputTokens ?? 0n),
    source: nameOf(UsageSource, entry.usage?.source ?? UsageSource.UNSPECIFIED),
    cost: Number(entry.costMicros),
    credits: Number(entry.millicredits),
    end: nameOf(End, entry.end),
  };
}

function workerRow({ id, pid, health, pools }: Worker): WorkerRow {
  const total = (of: (pool: Worker["pools"][number]) => number) => pools.reduce((sum, pool) => sum + of(pool), 0);
  return {
    id,
    pid,
    health: nameOf(Health, health),
    slots: total((pool) => pool.slots),
    available_slots: total((pool) => pool.availableSlots),
    queue_depth: total((pool) => pool.queueDepth),
  };
}

/** FAILED_AFTER_CONTENT → failed_after_content. */
function nameOf(names: Readonly<Record<string, number>>, value: number): string {
  return (
    Object.keys(names)
      .find((name) => names[name] === value)
      ?.toLowerCase() ?? String(value)
  );
}
