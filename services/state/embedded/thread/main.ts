// What the store's thread runs.
import { parentPort, workerData } from "node:worker_threads";
import { openStore } from "../store.ts";
import { faultOf, type FromStore } from "./messages.ts";
import { serveState } from "./serve.ts";

if (!parentPort) throw new Error("This program runs as a thread of another one.");
const port = parentPort;
const tell = (message: FromStore) => port.postMessage(message);
try {
  const { path } = workerData as { readonly path: string };
  serveState(await openStore({ path, onProblem: (problem) => tell({ kind: "problem", problem }) }), port);
} catch (error) {
  tell({ kind: "refused", fault: faultOf(error) });
  port.close();
}
