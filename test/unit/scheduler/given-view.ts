// What the tests of the view start from: accounts and workers of which a test names only what it is about.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { type Account, AccountSchema, type Breaker, BreakerSchema, BreakerState } from "#gen/drawbridge/v1/account";
import { ErrorReason } from "#gen/drawbridge/v1/error_reason";
import { Health, type PoolStatusSchema, type Worker, WorkerSchema } from "#gen/drawbridge/v1/worker";
import { type SchedulerSettings, schedulerSettings } from "../../../services/scheduler/config.ts";
import { createView, type View } from "../../../services/scheduler/fleet/view.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";

export interface AccountFields {
  readonly credits?: number;
  readonly cost?: number;
  readonly drained?: boolean;
  readonly models?: readonly string[];
  readonly revision?: bigint;
}

export function account(id: string, fields: AccountFields = {}): Account {
  const { credits = 10, cost = 1, drained = false, models = ["m"], revision = 1n } = fields;
  return create(AccountSchema, {
    spec: {
      id,
      models: Object.fromEntries(models.map((model) => [model, model])),
      millicreditsPerRequest: BigInt(cost * 1_000),
      drained,
    },
    credits: { available: BigInt(credits * 1_000) },
    createdAt: { seconds: 1n },
    revision,
  });
}

type PoolFields = MessageInitShape<typeof PoolStatusSchema> & { readonly load?: number };

/** A worker `id`-1 of the account with four slots, of which `load` are taken. */
export function worker(id: string, { load = 0, ...fields }: PoolFields = {}, revision = 1n): Worker {
  const slots = fields.slots ?? 4;
  const pool = {
    accountId: id,
    models: ["m"],
    slots,
    availableSlots: Math.max(0, slots - load),
    queueDepth: Math.max(0, load - slots),
    queueLimit: 4,
    health: Health.HEALTHY,
    ...fields,
  };
  return create(WorkerSchema, {
    id: `${id}-1`,
    incarnation: "i",
    address: `http://${id}`,
    revision,
    pools: [pool],
  });
}

export function openBreaker(accountId: string, until: number, cause: ErrorReason = ErrorReason.UNSPECIFIED): Breaker {
  const state = BreakerState.OPEN;
  return create(BreakerSchema, { accountId, state, cause, until: timestampFromMs(until), revision: 1n, reason: "why" });
}

export interface Given {
  readonly view: View;
  readonly clock: VirtualClock;
  readonly settings: SchedulerSettings;
  /** The account of the best candidate for "m". */
  readonly best: (excluded?: readonly string[]) => string | undefined;
}

export function given(
  accounts: readonly Account[],
  workers: readonly Worker[],
  options: { breakers?: (now: number) => Breaker[]; settings?: object } = {},
): Given {
  const clock = new VirtualClock();
  const settings = schedulerSettings.parse(options.settings ?? {});
  const view = createView({ settings, clock, random: seededRandom(1) });
  view.setAccounts(accounts, options.breakers?.(clock.now()) ?? []);
  view.setWorkers(workers);
  return {
    view,
    clock,
    settings,
    best: (excluded = []) => view.model("m")?.best(excluded, [], clock.now())?.account.id,
  };
}
