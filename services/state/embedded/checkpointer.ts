// Brings the write-ahead log back into the file from a thread of its own: a checkpoint waits for the disk, and the event loop must not.
import { DatabaseSync } from "node:sqlite";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";

const intervalMs = 1_000;

export interface Checkpointer {
  /** Ends the thread. The last checkpoint is the closing connection's. */
  stop(): Promise<void>;
}

export function startCheckpointer(path: string, onError: (error: unknown) => void): Checkpointer {
  const worker = new Worker(new URL(import.meta.url), { workerData: { path }, execArgv: [], stdin: false });
  worker.unref();
  worker.on("error", onError);
  const exited = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
  return {
    async stop() {
      worker.postMessage("stop");
      await exited;
    },
  };
}

function run(path: string): void {
  const connection = new DatabaseSync(path, { timeout: 1_000 });
  const checkpoint = connection.prepare("PRAGMA wal_checkpoint(PASSIVE)");
  const timer = setInterval(() => checkpoint.get(), intervalMs);
  parentPort?.once("message", () => {
    clearInterval(timer);
    connection.close();
  });
}

if (!isMainThread) run((workerData as { path: string }).path);
