// How many workers an account with room between min and max should have: the first one at once when requests wait for it, one more after prompts
// have waited for a while with no slot free, one less after the rest could have done the work for a longer while. Pure.
import type { Bounds } from "./desired.ts";
import { type Instance, poolOf } from "./observe.ts";

export interface ScaleRecord {
  readonly target: number;
  /** Since when prompts wait, in ms. */
  readonly pressedSince: number | undefined;
  /** Since when one worker less would do, in ms. */
  readonly idleSince: number | undefined;
  /** When the target last became another one, in ms; undefined: not yet. */
  readonly changedAt: number | undefined;
}

export interface Load {
  /** Workers that run, those that start included. */
  readonly workers: number;
  readonly starting: number;
  readonly slots: number;
  readonly busy: number;
  /** Prompts that wait at the workers. */
  readonly queued: number;
  /** Requests that wait at schedulers for a place. */
  readonly waiting: number;
  /** When a worker was last seen with a prompt, in ms; undefined: never. */
  readonly usedAt: number | undefined;
}

export interface ScaleSettings {
  readonly scale_up_after: number;
  readonly scale_down_after: number;
  readonly scale_down_load: number;
  readonly scale_to_zero_after: number;
  readonly scale_cooldown: number;
}

export function loadOf(
  instances: readonly Instance[],
  accountId: string,
  { waiting, usedAt }: Pick<Load, "waiting" | "usedAt">,
): Load {
  const live = instances.filter(({ state }) => state === "starting" || state === "running");
  const pools = live.map((instance) => poolOf(instance, accountId)).filter((pool) => pool !== undefined);
  return {
    workers: live.length,
    starting: live.length - pools.length,
    slots: pools.reduce((sum, { slots }) => sum + slots, 0),
    busy: pools.reduce((sum, { slots, availableSlots }) => sum + Math.max(0, slots - availableSlots), 0),
    queued: pools.reduce((sum, { queueDepth }) => sum + queueDepth, 0),
    waiting,
    usedAt,
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
  const changedAt = previous?.changedAt;
  const change = (to: number): ScaleRecord => ({
    target: to,
    pressedSince: undefined,
    idleSince: undefined,
    changedAt: now,
  });
  // Nobody can take what waits: every moment counts.
  if (target === 0) return load.waiting > 0 ? change(1) : { ...rest, target, changedAt };

  const pressed = load.queued + load.waiting > 0 && load.busy >= load.slots && load.starting === 0;
  const pressedSince = pressed ? (previous?.pressedSince ?? now) : undefined;
  const idleSince = couldBeLess(load, settings) ? idleFrom(previous, load, target, now) : undefined;
  const cool = changedAt === undefined || now - changedAt >= settings.scale_cooldown;
  if (pressedSince !== undefined && target < bounds.max && now - pressedSince >= settings.scale_up_after) {
    return change(target + 1);
  }
  const idleMs = target === 1 ? settings.scale_to_zero_after : settings.scale_down_after;
  if (idleSince !== undefined && cool && target > bounds.min && now - idleSince >= idleMs) return change(target - 1);
  return { target, pressedSince, idleSince, changedAt };
}

const rest = { pressedSince: undefined, idleSince: undefined };

/** Whether one worker less could do what is done now. */
function couldBeLess(load: Load, { scale_down_load }: ScaleSettings): boolean {
  if (load.queued > 0 || load.waiting > 0 || load.starting > 0) return false;
  const perWorker = load.slots / Math.max(1, load.workers);
  return load.busy <= Math.max(0, load.slots - perWorker) * scale_down_load;
}

/** The last worker is looked at more closely: a prompt between two looks counts too. */
function idleFrom(previous: ScaleRecord | undefined, load: Load, target: number, now: number): number {
  const since = previous?.idleSince ?? now;
  return target === 1 ? Math.max(since, load.usedAt ?? since) : since;
}

function clamp(value: number, { min, max }: Bounds): number {
  return Math.min(max, Math.max(min, value));
}
