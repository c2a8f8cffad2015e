// Bounds how many agent processes start at the same time: a cold start keeps a core busy for seconds, and several at once make all slow.

export interface StartGate {
  /** Starts that could begin now. */
  readonly free: number;
  /** Counts a start; call the result when it is over. */
  enter(): () => void;
  /** Told when a start is over. */
  onFree(listener: () => void): void;
}

export function createStartGate(startsMax: number): StartGate {
  const listeners: (() => void)[] = [];
  let starting = 0;
  return {
    get free() {
      return Math.max(0, startsMax - starting);
    },
    enter() {
      starting += 1;
      return () => {
        starting -= 1;
        for (const listener of listeners) listener();
      };
    },
    onFree: (listener) => void listeners.push(listener),
  };
}
