// A tournament over numbers: the largest of N is known at once, and a change costs log N steps. Nothing is allocated but when it grows.
import { untakeable } from "./candidate.ts";

/** A complete binary tree in arrays: node n has the children 2n and 2n + 1, and the leaves stand in the second half. */
export class Tournament {
  #capacity: number;
  #keys: Float64Array;
  /** How many leaves below a node have its key. */
  #counts: Uint32Array;
  #free: number[] = [];
  #used = 0;
  /** Xorshift state: small integers, since a fraction would be allocated. */
  #chance: number;

  /** `seed`: what decides among equals, from 0 to 1. */
  constructor(seed: number, capacity = 4) {
    this.#capacity = capacity;
    this.#keys = new Float64Array(2 * capacity).fill(untakeable);
    this.#counts = counted(capacity);
    this.#chance = (Math.floor(seed * 0x7fff_ffff) | 1) >>> 0;
  }

  /** A new leaf, untakeable at first. */
  add(): number {
    const freed = this.#free.pop();
    if (freed !== undefined) return freed;
    if (this.#used === this.#capacity) this.#grow();
    return this.#used++;
  }

  remove(leaf: number): void {
    this.set(leaf, untakeable);
    this.#free.push(leaf);
  }

  get(leaf: number): number {
    return this.#keys[this.#capacity + leaf] as number;
  }

  /** The largest key. */
  get max(): number {
    return this.#keys[1] as number;
  }

  set(leaf: number, key: number): void {
    const keys = this.#keys;
    const counts = this.#counts;
    let node = this.#capacity + leaf;
    if (keys[node] === key) return;
    keys[node] = key;
    for (node >>>= 1; node >= 1; node >>>= 1) {
      const left = keys[2 * node] as number;
      const right = keys[2 * node + 1] as number;
      const larger = left > right ? left : right;
      let count = 0;
      if (left === larger) count += counts[2 * node] as number;
      if (right === larger) count += counts[2 * node + 1] as number;
      if (keys[node] === larger && counts[node] === count) return;
      keys[node] = larger;
      counts[node] = count;
    }
  }

  /** A leaf with the largest key, each of equals with the same chance; -1: none can be taken. */
  best(): number {
    const keys = this.#keys;
    const counts = this.#counts;
    const max = keys[1] as number;
    if (max === untakeable) return -1;
    let place = this.#draw() % (counts[1] as number);
    let node = 1;
    while (node < this.#capacity) {
      node *= 2;
      if (keys[node] !== max) node += 1;
      else if (keys[node + 1] === max) {
        const left = counts[node] as number;
        if (place >= left) {
          place -= left;
          node += 1;
        }
      }
    }
    return node - this.#capacity;
  }

  #draw(): number {
    let chance = this.#chance;
    chance ^= chance << 13;
    chance ^= chance >>> 17;
    chance ^= chance << 5;
    this.#chance = chance;
    return chance & 0x3fff_ffff;
  }

  #grow(): void {
    const before = this.#keys.subarray(this.#capacity, 2 * this.#capacity);
    this.#capacity *= 2;
    this.#keys = new Float64Array(2 * this.#capacity).fill(untakeable);
    this.#counts = counted(this.#capacity);
    for (const [leaf, key] of before.entries()) this.set(leaf, key);
  }
}

/** Counts of a tree whose keys are all equal. */
function counted(capacity: number): Uint32Array {
  const counts = new Uint32Array(2 * capacity).fill(1, capacity);
  for (let node = capacity - 1; node >= 1; node -= 1) {
    counts[node] = (counts[2 * node] as number) + (counts[2 * node + 1] as number);
  }
  return counts;
}
