// Hints that something changed: at once inside this process, by Pub/Sub to the others. They only hurry things up: a hint may be lost, so whoever
// listens also reads by time, and a connection that comes back counts as a change of everything.
import type { Redis } from "ioredis";
import { newId } from "../../kit/random.ts";
import type { Log } from "../../kit/log.ts";
import type { Keys } from "../keys.ts";
import type { Connection } from "./connection.ts";

export interface Changes {
  readonly onChange: (listener: () => void) => Disposable;
  readonly notify: () => void;
}

export interface ChangeHub extends AsyncDisposable {
  /** One for each subject. */
  subject(name: string): Changes;
}

export interface ChangeHubOptions {
  readonly connection: Connection;
  readonly keys: Keys;
  /** A fresh connection for subscriptions. */
  readonly subscriber: () => Redis;
  /** How long to wait before the n-th attempt to subscribe again, in ms. */
  readonly pauseMs: (attempt: number) => number;
  readonly log: Log;
}

/** Changes of one subject within this time make one message. */
const publishPauseMs = 10;

export function createChangeHub(options: ChangeHubOptions): ChangeHub {
  const { connection, keys, log } = options;
  /** What our own messages say, so that they are not heard twice. */
  const self = newId("hub");
  const listenersByChannel = new Map<string, Set<() => void>>();
  const publishing = new Map<string, NodeJS.Timeout>();
  const subscription = createSubscription(options, {
    onMessage(channel, sender) {
      if (sender !== self) tell(listenersByChannel.get(channel) ?? []);
    },
    onReconnect() {
      for (const listeners of listenersByChannel.values()) tell(listeners);
    },
  });

  const publish = (channel: string) => {
    if (publishing.has(channel)) return;
    const timer = setTimeout(() => {
      publishing.delete(channel);
      connection.publish(channel, self).catch((error: unknown) => {
        log.debug({ err: error, channel }, "a hint was not sent; others find the change by time");
      });
    }, publishPauseMs);
    timer.unref();
    publishing.set(channel, timer);
  };

  return {
    subject(name) {
      const channel = keys.changes(name);
      const listeners = new Set<() => void>();
      listenersByChannel.set(channel, listeners);
      return {
        onChange(listener) {
          const own = () => listener();
          listeners.add(own);
          subscription.want(channel);
          return { [Symbol.dispose]: () => void listeners.delete(own) };
        },
        notify() {
          // After the caller has its answer, so that a listener never runs inside an operation.
          for (const listener of listeners) queueMicrotask(() => listeners.has(listener) && listener());
          publish(channel);
        },
      };
    },
    async [Symbol.asyncDispose]() {
      for (const listeners of listenersByChannel.values()) listeners.clear();
      const last = [...publishing.entries()];
      publishing.clear();
      for (const [, timer] of last) clearTimeout(timer);
      subscription[Symbol.dispose]();
      await Promise.allSettled(last.map(([channel]) => connection.publish(channel, self)));
    },
  };
}

function tell(listeners: Iterable<() => void>): void {
  for (const listener of listeners) listener();
}

interface SubscriptionEvents {
  readonly onMessage: (channel: string, sender: string) => void;
  readonly onReconnect: () => void;
}

/** Keeps one connection subscribed to what is wanted, over breaks. It connects when the first channel is wanted. */
function createSubscription(options: ChangeHubOptions, events: SubscriptionEvents) {
  const wanted = new Set<string>();
  let client: Redis | undefined;
  let retry: NodeJS.Timeout | undefined;
  let attempts = 0;
  let ended = false;

  const subscribe = async (to: Redis, channels: readonly string[]) => {
    try {
      await to.subscribe(...channels);
      // What changed before the subscription stood was not heard.
      if (to === client) events.onReconnect();
    } catch (error) {
      options.log.debug({ err: error }, "subscribing to hints failed");
      to.disconnect();
    }
  };
  const start = () => {
    retry = undefined;
    const next = options.subscriber();
    client = next;
    next.on("error", (error) => options.log.debug({ err: error }, "the subscription to hints has trouble"));
    next.on("message", events.onMessage);
    next.once("ready", () => {
      attempts = 0;
      void subscribe(next, [...wanted]);
    });
    next.once("end", () => {
      if (client !== next || ended) return;
      client = undefined;
      retry = setTimeout(start, options.pauseMs(++attempts));
      retry.unref();
    });
    // Its failure is heard as "end".
    next.connect().catch(() => {});
  };

  return {
    want(channel: string) {
      if (wanted.has(channel) || ended) return;
      wanted.add(channel);
      if (client?.status === "ready") void subscribe(client, [channel]);
      else if (!client && !retry) start();
    },
    [Symbol.dispose]() {
      ended = true;
      clearTimeout(retry);
      client?.disconnect();
      client = undefined;
    },
  };
}
