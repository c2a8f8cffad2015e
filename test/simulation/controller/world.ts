// One simulated fleet: controllers on one state, with a driver, a registry and workers that fail, under a virtual clock.
import { create } from "@bufbuild/protobuf";
import { AccountSpecSchema } from "#gen/drawbridge/v1/account";
import { type ControllerApp, createControllerApp } from "../../../services/controller/app.ts";
import { controllerSettings } from "../../../services/controller/config.ts";
import { silentLog } from "../../../services/kit/log.ts";
import type { Random } from "../../../services/kit/random.ts";
import { parseSettings } from "../../../services/kit/settings.ts";
import type { State } from "../../../services/state/state.ts";
import { seededRandom } from "../../support/seeded-random.ts";
import { VirtualClock } from "../../support/virtual-clock.ts";
import { simulatedDriver, simulatedWorker } from "./driver.ts";
import { ActionFence, type Actor } from "./fence.ts";
import { Journal } from "./journal.ts";
import { Judge } from "./judge.ts";
import { SimulatedProcess } from "./process.ts";
import { simulatedRegistry } from "./registry.ts";
import { override, simulatedState } from "./state.ts";
import { calm, SimulatedWorkers } from "./workers.ts";

export const resyncMs = 30_000;
export const tickMs = 1_000;

const config = parseSettings(
  controllerSettings,
  {
    resync: `${resyncMs}ms`,
    start_timeout: "30s",
    drain_grace: "20s",
    leader_lease: "30s",
    leader_renew: "10s",
    backoff_max: "30s",
    registry_caution: "20s",
    mass_failure_wait: "30s",
    scale_to_zero_after: "60s",
    scale_down_after: "60s",
  },
  "simulation",
);

/** The accounts of every controller's file: wanted at all times, also where the store was emptied. */
const file = [
  create(AccountSpecSchema, {
    id: "file",
    agent: "demo",
    models: { f: "f" },
    initialMillicredits: 100_000n,
    millicreditsPerRequest: 1_000n,
    slots: 2,
    queue: 4,
    workers: { min: 2, max: 2 },
  }),
];

export interface Controller extends Actor {
  readonly app: ControllerApp;
  /** Killed: it never goes on, and a successor runs. */
  dead: boolean;
  stopping: boolean;
}

export class World {
  readonly clock = new VirtualClock();
  readonly journal = new Journal(this.clock);
  readonly fence = new ActionFence(this.journal);
  readonly controllers: Controller[] = [];
  readonly random: Random;
  readonly workers: SimulatedWorkers;
  readonly judge: Judge;
  readonly state: State;
  #names = 0;
  #stores = 1;

  constructor(seed: number, state: State) {
    this.random = seededRandom(seed);
    this.workers = new SimulatedWorkers(this.clock, this.random);
    this.judge = new Judge({ state, file, workers: this.workers, clock: this.clock, journal: this.journal });
    this.state = override(state, { identify: async () => `store-${this.#stores}` });
  }

  /** A whole number from 0 on. */
  readonly below = (limit: number): number => Math.floor(this.random() * limit);

  startController(): void {
    const { journal, workers, fence, judge, random } = this;
    const name = `controller-${++this.#names}`;
    const process = new SimulatedProcess(this.clock);
    const reach = { actor: { name, process }, workers, fence, judge };
    const app = createControllerApp({
      state: simulatedState(process, this.state, workers),
      clock: process.clock,
      random,
      log: silentLog,
      config,
      agents: [],
      accounts: file,
      profiles: ["demo"],
      registry: simulatedRegistry(process, workers),
      worker: (address) => simulatedWorker(address, reach),
      driver: simulatedDriver(reach),
      identity: { owner: name, isGone: () => false },
    });
    this.controllers.push({ name, process, app, dead: false, stopping: false });
    journal.note(`${name} starts`);
    app.start().catch((error: unknown) => journal.violate(`${name} did not start: ${String(error)}`));
  }

  stop(one: Controller): void {
    one.stopping = true;
    const ended = () => (one.dead = true);
    const failed = (error: unknown) => this.journal.violate(`${one.name}: ${String(error)}`);
    one.app[Symbol.asyncDispose]().then(ended, failed);
  }

  /** Accounts and the lead are gone; the store has another name. */
  async emptyStore(): Promise<void> {
    this.journal.note("the store is emptied");
    this.#stores++;
    for (const { spec } of await this.state.accounts.list()) {
      await this.state.accounts.remove(spec?.id ?? "", 0, this.clock.now());
    }
    const leader = await this.state.leader.current(this.clock.now());
    if (leader) await this.state.leader.release(leader.owner);
    for (const { process } of this.controllers) process.mayBeStale = true;
  }

  /** Nothing goes wrong any more. */
  calm(): void {
    this.journal.note("the faults are over");
    this.workers.faults = calm;
    for (const { process, dead } of this.controllers) if (!dead) process.thaw();
    for (const worker of this.workers.live.values()) {
      worker.silent = false;
      worker.unhealthy = false;
    }
  }

  async step(): Promise<void> {
    await this.judge.remember();
    await this.clock.advance(tickMs);
    this.workers.tick();
  }
}
