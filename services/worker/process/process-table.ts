// Which processes belong to an agent, wherever they went: by parentage, and by a variable in their environment that every descendant
// inherits, also one that left the process group. Linux only; elsewhere nothing is found, and the process group has to do.
import { readdir, readFile } from "node:fs/promises";
import type { Clock } from "../../kit/clock.ts";

/** Every agent process has this variable; its value is unique to the process: WORKERTAG.NUMBER. */
export const tagVariable = "DRAWBRIDGE_AGENT";

/** A process, told apart from a later one with the same number by the time of its start. */
export interface ProcessIdentity {
  readonly pid: number;
  readonly startTime: string;
}

interface ProcessEntry extends ProcessIdentity {
  readonly parent: number;
  readonly group: number;
}

/** Living processes that descend from `root` or carry `tag`, `root` itself excepted. */
export async function findDescendants(root: number | undefined, tag: string): Promise<ProcessIdentity[]> {
  const entries = await processTable();
  const family = new Set<number>(root === undefined ? [] : [root]);
  addDescendants(family, entries);
  const found: ProcessIdentity[] = [];
  for (const entry of entries) {
    if (entry.pid === root || entry.pid === process.pid) continue;
    if (family.has(entry.pid) || (await carriesTag(entry.pid, tag))) found.push(entry);
  }
  return found;
}

/** How long a look at the table serves measurements: the members of a pool are weighed at the same moment, and each look reads all processes. */
const lookServesMs = 2_000;

/**
 * Measures resident memory of a process, of its group and of all that descends from it, in bytes. What they share counts for each of them.
 * undefined: not known here.
 */
export function createTreeMemory(clock: Pick<Clock, "monotonic">): (root: number) => Promise<number | undefined> {
  let look: { readonly at: number; readonly families: Promise<Families> } | undefined;
  return async (root) => {
    const now = clock.monotonic();
    if (!look || now - look.at > lookServesMs) look = { at: now, families: processTable().then(familiesOf) };
    let bytes = 0;
    for (const pid of (await look.families)(root)) bytes += await residentBytes(pid);
    return bytes > 0 ? bytes : undefined;
  };
}

/** The processes of a root's group, and all that descends from them. */
type Families = (root: number) => Set<number>;

function familiesOf(entries: readonly ProcessEntry[]): Families {
  const groups = Map.groupBy(entries, (entry) => entry.group);
  const children = Map.groupBy(entries, (entry) => entry.parent);
  return (root) => {
    const family = new Set([root, ...(groups.get(root) ?? []).map(({ pid }) => pid)]);
    // A set that grows while it is walked is walked to its end.
    for (const pid of family) for (const child of children.get(pid) ?? []) family.add(child.pid);
    return family;
  };
}

async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1_024;
}

/** A child may stand before its parent in the table, so it is read until nothing is added. */
function addDescendants(family: Set<number>, entries: readonly ProcessEntry[]): void {
  for (let size = -1; size !== family.size; ) {
    size = family.size;
    for (const entry of entries) if (family.has(entry.parent)) family.add(entry.pid);
  }
}

/** Whether exactly this process still lives. */
export async function isAlive({ pid, startTime }: ProcessIdentity): Promise<boolean> {
  return (await readProcess(pid))?.startTime === startTime;
}

async function processTable(): Promise<ProcessEntry[]> {
  const names = await readdir("/proc").catch(() => []);
  const entries: ProcessEntry[] = [];
  for (const name of names) {
    if (!/^\d+$/.test(name)) continue;
    const entry = await readProcess(Number(name));
    if (entry) entries.push(entry);
  }
  return entries;
}

/** undefined: it is gone, or dead and not yet collected. */
async function readProcess(pid: number): Promise<ProcessEntry | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  // The command's name stands in parentheses and may contain anything, so the fields are counted from its end.
  const [state, parent, group, ...rest] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const startTime = rest[16];
  if (!startTime || state === "Z" || state === "X") return undefined;
  return { pid, parent: Number(parent), group: Number(group), startTime };
}

async function carriesTag(pid: number, tag: string): Promise<boolean> {
  // Another user's environment cannot be read, and is not an agent's.
  const environment = await readFile(`/proc/${pid}/environ`, "latin1").catch(() => "");
  return `\0${environment}`.includes(`\0${tagVariable}=${tag}\0`);
}
