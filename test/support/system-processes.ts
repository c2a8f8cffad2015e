// Which living processes belong to a system under test. Every one of them works in the system's folder, or has a path of it in its
// environment: `up` and its workers by their working directory, agents and all that they start by their HOME.
import { readdir, readFile, readlink } from "node:fs/promises";

export interface SystemProcess {
  readonly pid: number;
  readonly parent: number;
  readonly command: string;
  /** Resident memory, in bytes. */
  readonly residentBytes: number;
}

/** Linux only: where there is no /proc, nothing is found. */
export async function processesOf(folder: string): Promise<SystemProcess[]> {
  const names = await readdir("/proc").catch(() => []);
  const pids = names.filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(pids.map((pid) => readProcess(pid, folder)));
  return found.filter((each) => each !== undefined);
}

async function readProcess(pid: number, folder: string): Promise<SystemProcess | undefined> {
  if (pid === process.pid) return undefined;
  const [directory, environment] = await Promise.all([
    readlink(`/proc/${pid}/cwd`).catch(() => ""),
    readFile(`/proc/${pid}/environ`, "latin1").catch(() => ""),
  ]);
  if (!directory.startsWith(folder) && !environment.includes(folder)) return undefined;
  const [status, command] = await Promise.all([
    readFile(`/proc/${pid}/status`, "utf8").catch(() => ""),
    readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => ""),
  ]);
  const field = (name: string) => new RegExp(`^${name}:\\s*(\\S+)`, "m").exec(status)?.[1] ?? "";
  // A zombie has ended and waits for its parent to take note.
  if (status === "" || field("State") === "Z") return undefined;
  return {
    pid,
    parent: Number(field("PPid")),
    command: command.replaceAll("\0", " ").trim(),
    residentBytes: Number(field("VmRSS")) * 1024,
  };
}
