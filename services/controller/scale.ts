// How many workers an account with room between min and max should have: one more after prompts have queued for a while with no slot free,
// one less after the rest could have done the work for a longer while. Pure.
import type { Bounds } from "./desired.ts";
import { type Instance, poolOf } from "./observe.ts";

export interface ScaleRecord {
  readonly target: number;
  /** Since when prompts queue, in ms. */
  readonly pressedSince: number | undefined;
  /** Since when one worker less would do, in ms. */
  readonly idleSince: number | undefined;
}

export interface Load {
  /** Workers that run, those that start included. */
  readonly workers: number;
  readonly starting: number;
  readonly slots: number;
  readonly busy: number;
  readonly queued: number;
}

export interface ScaleSettings {
  readonly scale_up_after: number;
  readonly scale_down_after: number;
}

export function loadOf(instances: readonly Instance[], accountId: string): Load {
  const live = instances.filter(({ state }) => state === "starting" || state === "running");
  const pools = live.map((instance) => poolOf(instance, accountId)).filter((pool) => pool !== undefined);
  return {
    workers: live.length,
    starting: live.length - pools.length,
    slots: pools.reduce((sum, { slots }) => sum + slots, 0),
    busy: pools.reduce((sum, { slots, availableSlots }) => sum + Math.max(0, slots - availableSlots), 0),
    queued: pools.reduce((sum, { queueDepth }) => sum + queueDepth, 0),
  };
}

/** A first record takes over the number that runs, so that a new leader does not end what an earlier one started. */
export function scale(
  previous: ScaleRecord | undefined,
  load: Load,
  bounds: Bounds,
  now: number,
  settings: ScaleSettings,
): ScaleRecord {
  const target = clamp(previous?.target ?? load.workers, bounds);
  const pressed = load.queued > 0 && load.busy >= load.slots && load.starting === 0;
  const perWorker = load.slots / Math.max(1, load.workers - load.starting);
  const idle = load.queued === 0 && load.starting === 0 && load.busy < load.slots - perWorker;
  const pressedSince = pressed ? (previous?.pressedSince ?? now) : undefined;
  const idleSince = idle ? (previous?.idleSince ?? now) : undefined;
  if (pressedSince !== undefined && target < bounds.max && now - pressedSince >= settings.scale_up_after) {
    return { target: target + 1, pressedSince: undefined, idleSince: undefined };
  }
  if (idleSince !== undefined && target > bounds.min && now - idleSince >= settings.scale_down_after) {
    return { target: target - 1, pressedSince: undefined, idleSince: undefined };
  }
  return { target, pressedSince, idleSince };
}

function clamp(value: number, { min, max }: Bounds): number {
  return Math.min(max, Math.max(min, value));
}
