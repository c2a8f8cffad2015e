// Brings the write-ahead log back into the file from a thread of its own: a checkpoint waits for the disk, and the event loop must not.
import { DatabaseSync } from "node:sqlite";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";

const intervalMs = 1_000;
/**
 * Under constant writing a passive checkpoint never quite reaches the log's end, and the log would grow without bound. Beyond this size, writers
 * wait for the short rest of one checkpoint, so that the log begins anew. 4,096 pages are 16 MiB.
 */
const logPagesMax = 4_096;

export interface Checkpointer {
  /** Makes a last checkpoint and ends the thread. */
  stop(): Promise<void>;
}

export function startCheckpointer(path: string, onError: (error: unknown) => void): Checkpointer {
  const worker = new Worker(new URL(import.meta.url), { workerData: { path }, execArgv: [], stdin: false });
  worker.unref();
  worker.on("error", onError);
  worker.on("message", onError);
  const exited = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
  return {
    async stop() {
      worker.ref();
      worker.postMessage("stop");
      await exited;
    },
  };
}

function run(path: string): void {
  const connection = new DatabaseSync(path, { timeout: 1_000 });
  // A failure is told, and the next turn tries again.
  const attempt = (work: () => void) => {
    try {
      work();
    } catch (error) {
      parentPort?.postMessage(error);
    }
  };
  const timer = setInterval(() => attempt(() => checkpoint(connection)), intervalMs);
  parentPort?.once("message", () => {
    clearInterval(timer);
    attempt(() => connection.exec("PRAGMA wal_checkpoint(TRUNCATE)"));
    connection.close();
  });
}

function checkpoint(connection: DatabaseSync): void {
  const result = connection.prepare("PRAGMA wal_checkpoint(PASSIVE)").get();
  if (Number(result?.["log"]) > logPagesMax) connection.exec("PRAGMA wal_checkpoint(RESTART)");
}

if (!isMainThread) run((workerData as { path: string }).path);
