// What an account wants, read from its record. Pure.
import { create, equals } from "@bufbuild/protobuf";
import {
  type Account,
  type AccountSpec,
  AccountSpecSchema,
  type AgentSpec,
  AgentSpecSchema,
} from "#gen/drawbridge/v1/account";
import type { WorkerProcess } from "./drivers/driver.ts";

export interface Bounds {
  readonly min: number;
  readonly max: number;
}

/** How many workers the account may have. */
export function workerBounds(spec: AccountSpec | undefined): Bounds {
  const { min, max } = spec?.workers ?? { min: 1, max: 1 };
  return { min, max: Math.max(1, min, max) };
}

/** Whether not even one more prompt can be paid. What leases hold may come back, so it counts. */
export function isExhausted({ spec, credits }: Account): boolean {
  const cost = spec?.millicreditsPerRequest ?? 0n;
  return cost > 0n && (credits?.available ?? 0n) + (credits?.held ?? 0n) < cost;
}

/** Whether the process runs the account as it is wanted now: changes that concern only the controller or the scheduler ask for no new one. */
export function runsSpec(process: WorkerProcess, wanted: AccountSpec, agents: readonly AgentSpec[]): boolean {
  const runs = process.spec.accounts.find(({ id }) => id === wanted.id);
  return runs !== undefined && sameWork(runs, wanted) && sameAgent(process.spec.agents, agents, wanted.agent);
}

function sameWork(one: AccountSpec, other: AccountSpec): boolean {
  return equals(AccountSpecSchema, workOf(one), workOf(other));
}

function workOf(spec: AccountSpec): AccountSpec {
  const { $typeName: _name, $unknown: _unknown, workers: _workers, ...rest } = spec;
  return create(AccountSpecSchema, { ...rest, initialMillicredits: 0n, drained: false });
}

function sameAgent(one: readonly AgentSpec[], other: readonly AgentSpec[], name: string): boolean {
  const [left, right] = [one, other].map((agents) => agents.find((agent) => agent.name === name));
  if (!left || !right) return left === right;
  return equals(AgentSpecSchema, left, right);
}

/** Whether the number of its workers follows its load. */
export function isElastic({ spec }: Account): boolean {
  const { min, max } = workerBounds(spec);
  return min < max;
}
