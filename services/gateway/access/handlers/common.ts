// What the handlers of AccessService share.
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { Budget } from "#gen/drawbridge/v1/access_service";
import type { Clock } from "../../../kit/clock.ts";
import { DrawbridgeError } from "../../../kit/errors.ts";
import type { BudgetTerms } from "../../../state/budgets.ts";
import type { State } from "../../../state/state.ts";
import type { ChannelHandlerOptions } from "../../channels/manage/handlers.ts";

export interface AccessHandlerOptions {
  readonly state: Pick<State, "access" | "ledger">;
  readonly channels: ChannelHandlerOptions;
  readonly clock: Clock;
  readonly pepper: string;
}

export const pageSizeDefault = 1_000;

export function required<T>(value: T | undefined, field: string): T {
  if (value === undefined) throw invalid(`${field}: a value is required.`);
  return value;
}

export function invalid(message: string): DrawbridgeError {
  return new DrawbridgeError("INVALID_ARGUMENT", message);
}

/** The page that was asked for, of one item more than it takes. */
export function nextToken(items: readonly { readonly id: string }[], size: number): string {
  return items.length > size ? (items[size - 1]?.id ?? "") : "";
}

export function budgetTerms(budget: Budget | undefined): BudgetTerms | undefined {
  return budget && { micros: Number(budget.micros), window: budget.window };
}

/** A time that is still to come, in ms. */
export function future(time: Parameters<typeof timestampMs>[0] | undefined, now: number): number | undefined {
  if (!time) return undefined;
  const ms = timestampMs(time);
  if (ms <= now) throw invalid("expires_at: this time has passed.");
  return ms;
}

/** The fields that an update names, each of which must be one that can be changed. */
export function maskedFields<Field extends string>(
  paths: readonly string[],
  fields: readonly Field[],
): ReadonlySet<Field> {
  const unknown = paths.find((path) => !fields.some((field) => field === path));
  if (unknown !== undefined || paths.length === 0) {
    throw invalid(
      `update_mask: expected some of ${fields.join(", ")}${unknown === undefined ? "" : `, not "${unknown}"`}.`,
    );
  }
  return new Set(paths as Field[]);
}
