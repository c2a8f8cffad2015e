// A driver that has nothing to run: for what concerns no worker.
import type { WorkerDriver } from "../../services/controller/drivers/driver.ts";

export function silentDriver(changes: Partial<WorkerDriver> = {}): WorkerDriver {
  return {
    async claim() {},
    async create() {},
    async destroy() {},
    list: async () => [],
    onExit: () => ({ [Symbol.dispose]() {} }),
    async [Symbol.asyncDispose]() {},
    ...changes,
  };
}
