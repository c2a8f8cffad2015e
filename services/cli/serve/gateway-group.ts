// A gateway of several processes that share one port.
import { systemClock } from "../../kit/clock.ts";
import type { Log } from "../../kit/log.ts";
import { type ProcessGroup, startProcessGroup } from "../../kit/process-group.ts";
import { entry } from "../entry.ts";

export interface GatewayGroupOptions {
  readonly processes: number;
  /** Of the `gateway` command. */
  readonly arguments: readonly string[];
  /** Beyond our own environment. */
  readonly environment: Readonly<Record<string, string>>;
  /** Takes what they print, by line. Absent: it goes where ours goes. */
  readonly onLine?: (line: string) => void;
  readonly log: Log;
}

export function startGatewayGroup(options: GatewayGroupOptions): Promise<ProcessGroup> {
  return startProcessGroup({
    ...options,
    entry,
    arguments: ["gateway", ...options.arguments],
    count: options.processes,
    clock: systemClock,
  });
}
