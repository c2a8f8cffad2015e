// What a seed stands for: a fleet, its faults, and what is asked of it.
import { seededRandom } from "../../support/seeded-random.ts";
import type { Random } from "../../../services/kit/random.ts";

export interface AccountScenario {
  readonly id: string;
  readonly credits: number;
  readonly slots: number;
  readonly workers: number;
  /** Time that a prompt takes, at least and at most, in ms. */
  readonly serviceMs: readonly [number, number];
  /** The share of prompts that fail. */
  readonly failureShare: number;
  /** The provider asks to slow down, as a share of the prompts. */
  readonly rateLimitShare: number;
}

export interface Scenario {
  readonly seed: number;
  readonly schedulers: number;
  readonly accounts: readonly AccountScenario[];
  /** Requests that arrive, on average a second. */
  readonly arrivals: number;
  readonly users: number;
  /** All requests go to the first scheduler but for this share, so that others compete with a flood. */
  readonly evenShare: number;
  /** Words of workers that are lost, as a share; how late the others come at most, in ms. */
  readonly lossShare: number;
  readonly delayMs: number;
  /** Calls of the store whose answer, or whose effect too, is lost. */
  readonly storeFaultShare: number;
  /** Worker deaths a minute, over all. */
  readonly deaths: number;
  /** A scheduler is killed in the middle. */
  readonly killsScheduler: boolean;
  readonly durationMs: number;
}

export function scenarioOf(seed: number): Scenario {
  const random = seededRandom(seed);
  const calm = random() < 0.2;
  const often = (share: number) => random() < share;
  const accounts = Array.from({ length: whole(random, 1, 6) }, (_, index) => accountOf(`a${index}`, random, calm));
  const capacity = accounts.reduce(
    (sum, { slots, workers, serviceMs: [least, most] }) => sum + (slots * workers * 2_000) / (least + most),
    0,
  );
  return {
    seed,
    schedulers: [1, 2, 4, 8][whole(random, 0, 3)] ?? 1,
    accounts,
    arrivals: capacity * (0.3 + 1.2 * random()),
    users: whole(random, 1, 6),
    evenShare: often(0.3) ? 0.2 : 1,
    lossShare: calm ? 0 : 0.2 * random(),
    delayMs: calm ? 5 : 500 * random(),
    storeFaultShare: calm || often(0.5) ? 0 : 0.02 * random(),
    deaths: calm ? 0 : whole(random, 0, 6),
    killsScheduler: !calm && often(0.3),
    durationMs: 12_000,
  };
}

function accountOf(id: string, random: Random, calm: boolean): AccountScenario {
  const least = 100 + 900 * random();
  return {
    id,
    credits: random() < 0.15 ? whole(random, 0, 30) : 10_000,
    slots: whole(random, 1, 4),
    workers: whole(random, 1, 2),
    serviceMs: [least, least * (1 + 3 * random())],
    failureShare: calm || random() < 0.6 ? 0 : random(),
    rateLimitShare: calm || random() < 0.8 ? 0 : 0.2 * random(),
  };
}

export function whole(random: Random, least: number, most: number): number {
  return least + Math.floor(random() * (most - least + 1));
}
