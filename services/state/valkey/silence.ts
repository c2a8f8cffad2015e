// A store that keeps a connection open and does not answer, such as one that is stopped or swaps, would make every call wait for its time-out,
// and calls would pile up. After one call that waited in vain, the others fail at once, until the store answers again. On a Cluster this holds
// for each node by itself: what others have is answered as ever.
import type { Cluster, Redis } from "ioredis";
import { DrawbridgeError } from "../../kit/errors.ts";
import { systemRandom } from "../../kit/random.ts";
import { type Client, commandTimeoutMs } from "./clients.ts";
import { replyCode } from "./errors.ts";
import { slotOf } from "./slots.ts";

export interface Guard {
  /** Whose keys may be asked for in one pipeline: those of a master and its replicas, or of the server. */
  groupOf(key: string): string;
  /** Runs a call about a key, unless whoever has the key is silent. */
  about<T>(key: string, work: () => Promise<T>): Promise<T>;
  /** Runs a call that any node can take. */
  anywhere<T>(work: (node: Client) => Promise<T>): Promise<T>;
}

export function createGuard(client: Client): Guard {
  return client.isCluster ? guardCluster(client as Cluster) : guardServer(client as Redis);
}

function guardServer(server: Redis): Guard {
  const silences = createSilences({
    // While it is not connected, calls fail at once by themselves.
    inVain: isTimeout,
    ask: () => server.ping(),
    ended: () => server.status === "end",
  });
  const run = <T>(work: () => Promise<T>) => silences.around("", "", work);
  return { groupOf: () => "", about: (_key, work) => run(work), anywhere: (work) => run(() => work(server)) };
}

function guardCluster(cluster: Cluster): Guard {
  const silences = createSilences({
    // The client looks for a node that is away by itself, and a missing node can stop the whole Cluster: each takes its time for every call.
    inVain: (error) => ["CLUSTERDOWN", undefined].includes(replyCode(error)),
    ask(key) {
      // The key may stand at another node by now.
      cluster.refreshSlotsCache();
      return inTime(cluster.exists(key));
    },
    ended: () => cluster.status === "end",
  });
  const placeOf = (key: string) => cluster.slots[slotOf(key)]?.[0] ?? "";
  return {
    groupOf: (key) => cluster.slots[slotOf(key)]?.join(";") ?? "",
    about: (key, work) => silences.around(placeOf(key), key, () => inTime(work())),
    async anywhere(work) {
      const nodes = cluster.nodes("master").filter(({ options }) => !silences.has(`${options.host}:${options.port}`));
      return inTime(work(nodes[Math.floor(systemRandom() * nodes.length)] ?? cluster));
    },
  };
}

interface SilenceOptions {
  /** Whether a call that failed so has waited for somebody who says nothing. */
  readonly inVain: (error: unknown) => boolean;
  /** Resolves when whoever has the key answers. */
  readonly ask: (key: string) => Promise<unknown>;
  /** Whether nobody is asked any more. */
  readonly ended: () => boolean;
}

/** Asked so often whether it answers again, in ms. */
const askAgainMs = 100;

function createSilences({ inVain, ask, ended }: SilenceOptions) {
  const silent = new Set<string>();
  const askLater = (place: string, key: string) => {
    const timer = setTimeout(() => {
      ask(key).then(
        () => silent.delete(place),
        (error: unknown) => {
          // A refusal is an answer, too.
          if (ended() || !inVain(error)) silent.delete(place);
          else askLater(place, key);
        },
      );
    }, askAgainMs);
    timer.unref();
  };
  return {
    has: (place: string) => silent.has(place),

    /** Runs what this place answers; fails at once while the place is silent. */
    async around<T>(place: string, key: string, work: () => Promise<T>): Promise<T> {
      if (silent.has(place)) {
        throw new DrawbridgeError("STATE_UNAVAILABLE", "The store does not answer. Try again.", {
          retryAfterMs: 1_000,
        });
      }
      try {
        return await work();
      } catch (error) {
        if (inVain(error) && !silent.has(place)) {
          silent.add(place);
          askLater(place, key);
        }
        throw error;
      }
    },
  };
}

/** ioredis's own words for a command that had no answer in its time. */
const timedOut = "Command timed out";

function isTimeout(error: unknown): boolean {
  return error instanceof Error && error.message === timedOut;
}

/** A Cluster's client gives every redirection of a call a time of its own; the call has one for all. */
async function inTime<T>(work: Promise<T>): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(timedOut)), commandTimeoutMs);
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
