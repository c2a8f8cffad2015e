// Who on this side wants to hear of changes. The thread is asked only for parts that somebody listens to.

export interface Listeners {
  readonly onChange: (part: string, listener: () => void) => Disposable;
  /** Tells all listeners of a part. */
  hint(part: string): void;
  /** Asks again for all parts, of a thread that knows of none, and tells everybody: what changed in between is not known. */
  renew(): void;
  clear(): void;
}

export function createListeners(ask: (kind: "watch" | "unwatch", part: string) => void): Listeners {
  const parts = new Map<string, Set<() => void>>();

  const hint = (part: string) => {
    // After callers have their answers, so that a listener never runs inside an operation.
    for (const listener of parts.get(part) ?? []) {
      queueMicrotask(() => parts.get(part)?.has(listener) && listener());
    }
  };

  return {
    onChange(part, listener) {
      const own = () => listener();
      const listening = parts.get(part) ?? new Set();
      parts.set(part, listening.add(own));
      if (listening.size === 1) ask("watch", part);
      return {
        [Symbol.dispose]() {
          if (listening.delete(own) && listening.size === 0) ask("unwatch", part);
        },
      };
    },
    hint,
    renew() {
      for (const [part, listening] of parts) {
        if (listening.size === 0) continue;
        ask("watch", part);
        hint(part);
      }
    },
    clear() {
      for (const listening of parts.values()) listening.clear();
    },
  };
}
