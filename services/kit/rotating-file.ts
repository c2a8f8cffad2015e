// A log file of bounded size: at its limit it becomes `<file>.1`, and a new one begins.
import { closeSync, fstatSync, mkdirSync, openSync, renameSync, writeSync } from "node:fs";
import { dirname } from "node:path";

export interface RotatingFile extends Disposable {
  write(chunk: string | Uint8Array): void;
}

/** Appends to `path` (mode 0600, folders are made); at most two files of `bytesMax` each stay on disk. */
export function openRotatingFile(path: string, bytesMax: number): RotatingFile {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  let descriptor = openSync(path, "a", 0o600);
  let size = fstatSync(descriptor).size;
  return {
    write(chunk) {
      const bytes = typeof chunk === "string" ? Buffer.from(chunk) : chunk;
      if (size > 0 && size + bytes.byteLength > bytesMax) {
        closeSync(descriptor);
        renameSync(path, `${path}.1`);
        descriptor = openSync(path, "a", 0o600);
        size = 0;
      }
      writeSync(descriptor, bytes);
      size += bytes.byteLength;
    },
    [Symbol.dispose]() {
      closeSync(descriptor);
    },
  };
}
