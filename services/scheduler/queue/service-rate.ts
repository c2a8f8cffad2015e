// How fast a queue is served, from what was seen: the mean time between the last turns, and how much longer the present one takes by now.
export interface ServiceRate {
  /** Somebody waits now where nobody did: the time since the last turn says nothing, and turns of long ago do not either. */
  begin(now: number): void;
  /** One was served. */
  served(now: number): void;
  /** Time until one behind `ahead` others is served, in ms; undefined: too little was seen to say. */
  estimateMs(ahead: number, now: number): number | undefined;
}

/** Turns that count, at most; fewer than the least say nothing, since the first ones may have waited for a start. */
const turnsMax = 64;
const turnsMin = 8;
/** A rate counts for so long after its last turn, in ms. One that refuses everybody would never be seen to change. */
const memoryMs = 60_000;

export function createServiceRate(): ServiceRate {
  /** When the last turns were; the first is where the time is counted from. */
  let times: number[] = [];
  let earlierGapMs: number | undefined;
  let servedAt = -Infinity;
  const last = () => times.at(-1) ?? 0;
  const gapMs = (): number | undefined => {
    const turns = times.length - 1;
    return turns >= turnsMin ? (last() - (times[0] ?? 0)) / turns : earlierGapMs;
  };
  return {
    begin(now) {
      earlierGapMs = now - servedAt > memoryMs ? undefined : gapMs();
      times = [now];
    },
    served(now) {
      servedAt = now;
      times.push(now);
      if (times.length > turnsMax) times.shift();
    },
    estimateMs(ahead, now) {
      const gap = gapMs();
      // That the present turn takes longer than usual delays those behind it once, however many they are.
      return gap === undefined ? undefined : (ahead + 1) * gap + Math.max(0, now - last() - gap);
    },
  };
}
