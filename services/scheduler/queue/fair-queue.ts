// The order in which requests wait: classes share by weight, and within a class users take turns, so that neither a class nor a user's flood starves
// another. Pure: no time, no promises.
import { Priority } from "#gen/drawbridge/v1/scheduler_service";

export interface Weights {
  readonly high: number;
  readonly normal: number;
  readonly low: number;
}

/** One that waits. */
export interface Waiting {
  readonly userId: string;
  readonly priority: Priority;
}

interface Class<Item> {
  readonly weight: number;
  /** Grows by 1 / weight with each turn: whoever has had the least for its weight is next (stride scheduling). */
  pass: number;
  /** Users in the order of their turns, each with what they wait with, oldest first. */
  readonly users: Map<string, Set<Item>>;
}

export class FairQueue<Item extends Waiting> {
  readonly #classes: Map<Priority, Class<Item>>;
  #size = 0;
  /** The pass of the last turn: a class that begins to wait starts here, so that it saves no turns up. */
  #pass = 0;

  constructor(weights: Weights) {
    const withWeight = (weight: number): Class<Item> => ({ weight, pass: 0, users: new Map() });
    this.#classes = new Map<Priority, Class<Item>>([
      [Priority.HIGH, withWeight(weights.high)],
      [Priority.NORMAL, withWeight(weights.normal)],
      [Priority.LOW, withWeight(weights.low)],
    ]);
  }

  get size(): number {
    return this.#size;
  }

  add(item: Item): void {
    const own = this.#classOf(item);
    if (own.users.size === 0) own.pass = Math.max(own.pass, this.#pass);
    const items = own.users.get(item.userId);
    if (items) items.add(item);
    else own.users.set(item.userId, new Set([item]));
    this.#size += 1;
  }

  /** Takes it out, wherever it stands. */
  remove(item: Item): void {
    const { users } = this.#classOf(item);
    const items = users.get(item.userId);
    if (!items?.delete(item)) return;
    if (items.size === 0) users.delete(item.userId);
    this.#size -= 1;
  }

  /** Whose turn it is among those that `accepts` takes; at most `looksMax` are asked. It stays in the queue; its class and user have had a turn. */
  next(accepts: (item: Item) => boolean, looksMax: number): Item | undefined {
    let looks = 0;
    for (const turn of this.#inTurn()) {
      for (const [userId, items] of turn.users) {
        for (const item of items) {
          if (looks >= looksMax) return undefined;
          looks += 1;
          if (!accepts(item)) continue;
          this.#pass = turn.pass;
          turn.pass += 1 / turn.weight;
          // To the end of the line.
          turn.users.delete(userId);
          turn.users.set(userId, items);
          return item;
        }
      }
    }
    return undefined;
  }

  /** Gives back the turn of one that could not be served after all. */
  refund(item: Item): void {
    const own = this.#classOf(item);
    own.pass -= 1 / own.weight;
  }

  /** How many would be served before a new one like this, if nobody else came. */
  ahead({ userId, priority }: Waiting): number {
    const own = this.#classOf({ priority });
    const turns = (own.users.get(userId)?.size ?? 0) + 1;
    let inClass = 0;
    for (const [user, items] of own.users) inClass += user === userId ? turns - 1 : Math.min(items.size, turns);
    let others = 0;
    for (const each of this.#classes.values()) {
      if (each === own) continue;
      let waiting = 0;
      for (const items of each.users.values()) waiting += items.size;
      others += Math.min(waiting, ((inClass + 1) * each.weight) / own.weight);
    }
    return inClass + Math.floor(others);
  }

  *[Symbol.iterator](): Generator<Item, void, undefined> {
    for (const { users } of this.#classes.values()) for (const items of users.values()) yield* items;
  }

  #classOf({ priority }: Pick<Waiting, "priority">): Class<Item> {
    const known = this.#classes.get(priority) ?? this.#classes.get(Priority.NORMAL);
    if (!known) throw new Error("a queue has a class for normal requests");
    return known;
  }

  #inTurn(): Class<Item>[] {
    return [...this.#classes.values()].filter(({ users }) => users.size > 0).sort((a, b) => a.pass - b.pass);
  }
}
