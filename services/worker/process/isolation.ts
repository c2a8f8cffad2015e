// Puts an agent's command behind a program that limits what it can see and use. Off unless configured: not every machine has these, and
// not every agent bears them.
import type { AccountFolders } from "./environment.ts";

export const isolationKinds = ["none", "bwrap", "systemd-run"] as const;

export interface IsolationOptions {
  readonly kind: (typeof isolationKinds)[number];
  /** Of all the processes of the agent together, in bytes. 0: none. Only systemd-run keeps it. */
  readonly memoryBytesMax: number;
  /** Processes and threads of the agent. 0: none. Only systemd-run keeps it. */
  readonly tasksMax: number;
  /** The worker's own folder: the other accounts are in it. */
  readonly directory: string;
  readonly folders: AccountFolders;
  /** The agent's working directory. */
  readonly workDirectory: string;
  /** Whether the worker runs as root, and so speaks to the system's systemd. */
  readonly root: boolean;
}

export function isolated(command: readonly string[], options: IsolationOptions): readonly string[] {
  if (options.kind === "bwrap") return [...bubblewrap(options), "--", ...command];
  if (options.kind === "systemd-run") return [...systemdScope(options), "--", ...command];
  return command;
}

/**
 * Everything can be read, as before, but the worker's folder, of which only the account's part is there; nothing can be written but the
 * account's folders and the working directory; processes outside cannot be seen or signalled.
 */
function bubblewrap({ directory, folders, workDirectory }: IsolationOptions): string[] {
  const writable = new Set([folders.own, workDirectory, folders.home]);
  const binds = [...writable].flatMap((folder) => ["--bind", folder, folder]);
  const namespaces = ["--unshare-pid", "--unshare-ipc", "--unshare-uts"];
  const view = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", directory];
  const rest = ["--remount-ro", directory, "--chdir", workDirectory];
  return ["bwrap", "--die-with-parent", ...namespaces, ...view, ...binds, ...rest];
}

/** A scope runs the command in place of systemd-run, so its process and its group stay ours. */
function systemdScope({ root, memoryBytesMax, tasksMax }: IsolationOptions): string[] {
  const limits = [
    ...(memoryBytesMax > 0 ? [`MemoryMax=${memoryBytesMax}`, "MemorySwapMax=0"] : []),
    ...(tasksMax > 0 ? [`TasksMax=${tasksMax}`] : []),
  ];
  const manager = root ? [] : ["--user"];
  return ["systemd-run", ...manager, "--scope", "--quiet", "--collect", ...limits.flatMap((limit) => ["-p", limit])];
}
