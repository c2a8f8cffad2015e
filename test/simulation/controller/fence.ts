// Where actions arrive: those of leaders that have been replaced are refused, as by a driver, and nobody may come with one but a process that was
// stopped in its tracks, or whose lock went with the store.
import { DrawbridgeError } from "../../../services/kit/errors.ts";
import type { Journal } from "./journal.ts";
import type { SimulatedProcess } from "./process.ts";

/** Who acts. */
export interface Actor {
  readonly name: string;
  readonly process: SimulatedProcess;
}

export class ActionFence {
  actions = 0;
  refused = 0;
  #epoch = 0;
  /** Epoch → who acted in it. */
  readonly #actors = new Map<number, string>();
  readonly #journal: Journal;

  constructor(journal: Journal) {
    this.#journal = journal;
  }

  /** NOT_LEADER for an epoch that is over. */
  pass(what: string, epoch: number, { name, process }: Actor): void {
    this.actions++;
    this.#journal.note(`${name}, epoch ${epoch}: ${what}`);
    if (epoch < this.#epoch) {
      this.refused++;
      if (!process.mayBeStale) this.#journal.violate(`${name} acts in epoch ${epoch} after one of ${this.#epoch}`);
      throw new DrawbridgeError("NOT_LEADER", `Epoch ${this.#epoch} has begun.`);
    }
    this.#epoch = epoch;
    const actor = this.#actors.get(epoch) ?? name;
    this.#actors.set(epoch, actor);
    if (actor !== name) this.#journal.violate(`${actor} and ${name} both act in epoch ${epoch}`);
  }
}
