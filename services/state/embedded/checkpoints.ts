// What the checkpointer's thread runs.
import { DatabaseSync } from "node:sqlite";
import { parentPort, workerData } from "node:worker_threads";

const intervalMs = 500;
/**
 * Under constant writing the thread never quite reaches the log's end, where the log could begin anew, and the log would grow without bound.
 * Beyond this size, once the thread has done most of the work, the writer itself does the short rest. 8,192 pages are 32 MiB.
 */
const logPagesMax = 8_192;

export type CheckpointMessage = { readonly kind: "long log" } | { readonly kind: "error"; readonly error: unknown };

function run(path: string): void {
  const connection = new DatabaseSync(path, { timeout: 1_000 });
  const tell = (message: CheckpointMessage) => parentPort?.postMessage(message);
  const attempt = (work: () => void) => {
    try {
      work();
    } catch (error) {
      tell({ kind: "error", error });
    }
  };
  const checkpoint = () => {
    const result = connection.prepare("PRAGMA wal_checkpoint(PASSIVE)").get();
    if (Number(result?.["log"]) > logPagesMax) tell({ kind: "long log" });
  };
  const timer = setInterval(() => attempt(checkpoint), intervalMs);
  parentPort?.once("message", () => {
    clearInterval(timer);
    attempt(() => connection.exec("PRAGMA wal_checkpoint(TRUNCATE)"));
    connection.close();
  });
}

run((workerData as { path: string }).path);
