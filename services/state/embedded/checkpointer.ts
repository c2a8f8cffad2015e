// Brings the write-ahead log back into the file from a thread of its own: a checkpoint waits for the disk, and the event loop must not.
import { DatabaseSync } from "node:sqlite";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";

const intervalMs = 500;
/**
 * Under constant writing the thread never quite reaches the log's end, where the log could begin anew, and the log would grow without bound.
 * Beyond this size, once the thread has done most of the work, the writer itself does the short rest. 8,192 pages are 32 MiB.
 */
const logPagesMax = 8_192;

export interface Checkpointer {
  /** Makes a last checkpoint and ends the thread. */
  stop(): Promise<void>;
}

export interface CheckpointerOptions {
  readonly path: string;
  /** Told that the log is long, and that little of it is left to bring into the file. */
  readonly onLongLog: () => void;
  /** Told of a checkpoint that failed. The next one tries again. */
  readonly onError: (error: unknown) => void;
}

type Message = { readonly kind: "long log" } | { readonly kind: "error"; readonly error: unknown };

export function startCheckpointer({ path, onLongLog, onError }: CheckpointerOptions): Checkpointer {
  const worker = new Worker(new URL(import.meta.url), { workerData: { path }, execArgv: [], stdin: false });
  worker.unref();
  worker.on("error", onError);
  worker.on("message", (message: Message) => (message.kind === "error" ? onError(message.error) : onLongLog()));
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
  const tell = (message: Message) => parentPort?.postMessage(message);
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

if (!isMainThread) run((workerData as { path: string }).path);
