// Names of controllers, made so that on one machine it can be told whether the owner of a lease still runs.
import { readlinkSync } from "node:fs";
import { hostname } from "node:os";
import { newId } from "../kit/random.ts";

export interface LeaderIdentity {
  /** New with every start: HOST/NAMESPACE/PID/RANDOM. */
  readonly owner: string;
  /** Whether the owner of that name ran on this machine, in this process namespace, and has ended. */
  isGone(owner: string): boolean;
}

export function createLeaderIdentity(): LeaderIdentity {
  const place = `${hostname()}/${processNamespace()}`;
  const owner = `${place}/${process.pid}/${newId("ctl")}`;
  return {
    owner,
    isGone(other) {
      const match = /^(.*)\/(\d+)\/[^/]+$/.exec(other);
      if (other === owner || match?.[1] !== place) return false;
      const pid = Number(match[2]);
      // Our own number was somebody else's before.
      return pid === process.pid || !isAlive(pid);
    },
  };
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH";
  }
}

/** Containers can share a host name, and have their own process numbers. Systems without namespaces have one. */
function processNamespace(): string {
  try {
    return readlinkSync("/proc/self/ns/pid").replaceAll(/\D/g, "");
  } catch {
    return "0";
  }
}
