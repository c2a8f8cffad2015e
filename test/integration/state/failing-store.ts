// A program for the store's thread that fails when it is pinged.
import { parentPort, workerData } from "node:worker_threads";
import { openStore } from "../../../services/state/embedded/store.ts";
import { serveState } from "../../../services/state/embedded/thread/serve.ts";

if (!parentPort) throw new Error("This program runs as a thread of another one.");
const { path } = workerData as { readonly path: string };
const state = await openStore({ path, onProblem: () => {} });
const ping = () =>
  new Promise<void>(() => {
    setImmediate(() => {
      throw new Error("the thread fails");
    });
  });
serveState({ ...state, ping }, parentPort);
