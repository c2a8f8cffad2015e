// How fast a queue is served, from what was seen: the mean time between the last turns, the present gap included, so that a queue that stands still
// is not as fast as it was.
export interface ServiceRate {
  /** Somebody waits now where nobody did: the time before says nothing. */
  begin(now: number): void;
  /** One was served. */
  served(now: number): void;
  /** Time until one behind `ahead` others is served, in ms; undefined: nothing was seen yet. */
  estimateMs(ahead: number, now: number): number | undefined;
}

/** Turns that count, at most; fewer than the least say nothing, since the first ones may have waited for a start. */
const turnsMax = 64;
const turnsMin = 8;

export function createServiceRate(): ServiceRate {
  /** When the last turns were; the first is where the time is counted from. */
  let times: number[] = [];
  let earlierGapMs: number | undefined;
  const gapMs = (now: number): number | undefined => {
    const turns = times.length - 1;
    const span = now - (times[0] ?? now);
    if (turns >= turnsMin) return span / turns;
    return earlierGapMs === undefined ? undefined : Math.max(earlierGapMs, span / (turns + 1));
  };
  return {
    begin(now) {
      earlierGapMs = gapMs(times.at(-1) ?? now);
      times = [now];
    },
    served(now) {
      times.push(now);
      if (times.length > turnsMax) times.shift();
    },
    estimateMs(ahead, now) {
      const gap = gapMs(now);
      return gap === undefined ? undefined : (ahead + 1) * gap;
    },
  };
}
