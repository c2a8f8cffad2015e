// What happened in a simulation, and the first thing that must not happen.
import type { Clock } from "../../../services/kit/clock.ts";

export class Journal {
  readonly trace: string[] = [];
  violation: string | undefined;
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  note(text: string): void {
    this.trace.push(`${(this.#clock.monotonic() / 1_000).toFixed(1).padStart(7)} s  ${text}`);
  }

  violate(text: string): void {
    this.note(`VIOLATION: ${text}`);
    this.violation ??= text;
  }
}
