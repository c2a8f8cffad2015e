// The state as one controller's process sees it: hints get lost, and a stopped process asks for no lease.
import type { Observable, State } from "../../../services/state/state.ts";
import type { SimulatedProcess } from "./process.ts";
import type { SimulatedWorkers } from "./workers.ts";

export function simulatedState(process: SimulatedProcess, state: State, workers: SimulatedWorkers): State {
  const deaf = <Store extends Observable>(store: Store): Store =>
    override(store, {
      onChange: (listener: () => void) =>
        store.onChange(() => void (workers.happens(workers.faults.lostExits) || process.frozen || listener())),
    });
  return override(state, {
    accounts: deaf(state.accounts),
    demand: deaf(state.demand),
    leader: override(deaf(state.leader), {
      acquire: (...args: Parameters<State["leader"]["acquire"]>) => process.call(() => state.leader.acquire(...args)),
    }),
  });
}

export function override<Target extends object>(target: Target, changes: object): Target {
  return new Proxy(target, {
    get(_, name) {
      if (name in changes) return Reflect.get(changes, name);
      const value: unknown = Reflect.get(target, name);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
