// Brings the write-ahead log back into the file from a thread of its own: a checkpoint waits for the disk, and the store's operations must not.
import { Worker } from "node:worker_threads";
import type { CheckpointMessage } from "./checkpoints.ts";

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

export function startCheckpointer({ path, onLongLog, onError }: CheckpointerOptions): Checkpointer {
  const worker = new Worker(new URL("./checkpoints.ts", import.meta.url), {
    workerData: { path },
    execArgv: [],
    stdin: false,
  });
  worker.unref();
  worker.on("error", onError);
  worker.on("message", (message: CheckpointMessage) =>
    message.kind === "error" ? onError(message.error) : onLongLog(),
  );
  const exited = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
  return {
    async stop() {
      worker.ref();
      worker.postMessage("stop");
      await exited;
    },
  };
}
