// One seed, to its end: two controllers, four minutes of faults, and then as long as it takes until everything is as it is wanted.
import { silentLog } from "../../../services/kit/log.ts";
import { openState } from "../../../services/state/open.ts";
import { disturb } from "./disturbances.ts";
import { resyncMs, tickMs, World } from "./world.ts";

/** After the last fault, what is wanted is there within so many resyncs: a leader's lease, a start that never ends, a back-off, a roll. */
export const resyncsMax = 6;
const faultsMs = 240_000;
const endingMs = 60_000;
const disturbanceProbability = 0.15;

export interface Result {
  readonly violation: string | undefined;
  readonly trace: readonly string[];
  readonly resyncs: number;
  readonly actions: number;
  readonly refused: number;
}

export async function simulate(seed: number): Promise<Result> {
  await using state = await openState("sqlite::memory:", { log: silentLog });
  const world = new World(seed, state);
  const { journal, fence } = world;
  const level = world.random();
  world.workers.faults = {
    driverErrors: level * 0.2,
    slowCalls: level * 0.2,
    lostExits: level * 0.5,
    brokenStarts: level * 0.2,
  };
  world.startController();
  world.startController();
  for (let time = 0; time < faultsMs && journal.violation === undefined; time += tickMs) {
    if (world.random() < disturbanceProbability) await disturb(world);
    await world.step();
  }
  world.calm();
  const resyncs = await settle(world);
  for (const one of world.controllers) if (!one.dead && !one.stopping) world.stop(one);
  const running = () => world.controllers.some(({ dead }) => !dead);
  for (let time = 0; running() && time < endingMs; time += tickMs) await world.step();
  if (running()) journal.violate("a controller does not end");
  const { violation, trace } = journal;
  return { violation, trace, resyncs, actions: fence.actions, refused: fence.refused };
}

/** How many resyncs it takes until everything is as it is wanted. */
async function settle(world: World): Promise<number> {
  const { judge, journal } = world;
  let resyncs = 0;
  let left = await judge.difference();
  for (let time = 0; left !== undefined && journal.violation === undefined; time += tickMs) {
    resyncs = Math.ceil(time / resyncMs);
    if (resyncs > resyncsMax) journal.violate(`after ${resyncsMax} resyncs without a fault, ${left}`);
    await world.step();
    left = await judge.difference();
  }
  return resyncs;
}
