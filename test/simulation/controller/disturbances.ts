// What goes wrong, or changes, at random: one thing at a time.
import { create } from "@bufbuild/protobuf";
import { type AccountSpec, AccountSpecSchema } from "#gen/drawbridge/v1/account";
import type { World } from "./world.ts";

export async function disturb(world: World): Promise<void> {
  const { workers, clock, state, journal } = world;
  const all = [...workers.live.values()];
  const victim = all[world.below(Math.max(1, all.length))];
  const id = `a${world.below(3)}`;
  const now = clock.now();
  const kind = world.below(15);
  if (kind === 0) await changeAccount(world, id);
  else if (kind === 1) await changeCredits(world, id);
  else if (kind === 2) await state.demand.report("scheduler", "m", world.below(5), 20_000, now);
  else if (kind === 3) disturbController(world);
  else if (kind === 4) {
    journal.note("the registry's streams break");
    const cut = [...workers.watchers];
    workers.watchers.clear();
    for (const watcher of cut) watcher({});
  } else if (kind === 5 && world.below(3) === 0) {
    journal.note("the registry forgets everybody");
    for (const worker of all) worker.faultAt = now;
    for (const [workerId, { worker }] of workers.records) workers.deregister(workerId, worker.incarnation);
  } else if (kind === 14) {
    if (world.below(3) === 0) await world.emptyStore();
  } else if (victim) {
    victim.faultAt = now;
    if (kind <= 7) {
      journal.note(`${victim.spec.workerId} dies`);
      workers.end(victim.spec.workerId, false);
    } else if (kind <= 10) victim.silent = !victim.silent;
    else victim.unhealthy = !victim.unhealthy;
  }
}

async function changeAccount(world: World, id: string): Promise<void> {
  const { state, clock, journal } = world;
  const now = clock.now();
  const found = await state.accounts.get(id);
  journal.note(`account ${id} changes`);
  if (found && world.below(4) === 0) await state.accounts.remove(id, 0, now);
  else if (found) await state.accounts.update(anyAccount(world, id), 0, now);
  else await state.accounts.create(anyAccount(world, id), "api", now);
}

function anyAccount(world: World, id: string): AccountSpec {
  const min = world.below(4);
  const max = Math.max(1, min) + world.below(2);
  const fields = { agent: "demo", models: { m: "m" }, slots: 1 + world.below(3), queue: 4, workers: { min, max } };
  return create(AccountSpecSchema, { id, initialMillicredits: 100_000n, millicreditsPerRequest: 1_000n, ...fields });
}

async function changeCredits({ state, clock, journal, below }: World, id: string): Promise<void> {
  if (!(await state.accounts.get(id))) return;
  const available = below(2) * 100_000;
  journal.note(`account ${id} has ${available}`);
  await state.accounts.setAvailable(id, available, clock.now());
}

function disturbController(world: World): void {
  const { journal } = world;
  const running = world.controllers.filter(({ dead, stopping }) => !dead && !stopping);
  const one = running[world.below(running.length)];
  if (!one) return;
  const kind = world.below(3);
  if (one.process.frozen) {
    journal.note(`${one.name} goes on`);
    one.process.thaw();
  } else if (kind === 0) {
    journal.note(`${one.name} is killed`);
    one.process.freeze();
    one.dead = true;
    world.startController();
  } else if (kind === 1) {
    journal.note(`${one.name} is stopped in its tracks`);
    one.process.freeze();
  } else {
    journal.note(`${one.name} stops`);
    world.stop(one);
    world.startController();
  }
}
