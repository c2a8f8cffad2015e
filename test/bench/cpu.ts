// CPU time and memory of processes, as the kernel counts them.
import { readdirSync, readFileSync } from "node:fs";

/** Linux fixes this for programs: 100 ticks of user and system time a second. */
const microsPerTick = 10_000;

/** User and system time of a process so far, in microseconds, in steps of 10 ms. 0: it is gone. */
export function cpuMicros(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) * microsPerTick;
  } catch {
    return 0;
  }
}

/**
 * The same to the microsecond where the kernel counts per thread. Threads that ended are missing from that count, so the larger of both is
 * nearer to the truth.
 */
export function preciseCpuMicros(pid: number): number {
  return Math.max(cpuMicros(pid), threadsCpuMicros(pid));
}

function threadsCpuMicros(pid: number): number {
  try {
    let nanos = 0;
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      nanos += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "latin1").split(" ")[0]);
    }
    return nanos / 1_000;
  } catch {
    return 0;
  }
}

/** Resident memory, in KiB. */
export function residentKib(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "latin1");
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0);
}

export function sum(pids: readonly number[], of: (pid: number) => number): number {
  return pids.reduce((total, pid) => total + of(pid), 0);
}
