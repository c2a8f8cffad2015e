// Which agents this machine has, for a start without configuration.
import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";

/** The file that a command of this name would run, as a shell would find it. */
export function findOnPath(command: string, path: string): string | undefined {
  for (const folder of path.split(delimiter)) {
    if (folder === "") continue;
    const file = join(folder, command);
    if (isExecutable(file)) return file;
  }
  return undefined;
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}
