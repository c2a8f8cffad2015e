// Portkey's gateway, a peer in Node that knows no keys of its own and bills nobody, from the npm registry. It is installed once into the
// temporary folder of the machine.
import { execFile } from "node:child_process";
import { access, mkdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { accepts, freePort, startProgram, waitFor } from "../processes.ts";
import type { Contender } from "./contender.ts";
import { startUpstream } from "./upstream.ts";

export const portkeyVersion = "1.15.2";
const folder = join(tmpdir(), `drawbridge-bench-portkey-${portkeyVersion}`);
const program = join(folder, "node_modules/@portkey-ai/gateway/build/start-server.js");
const headersFix = new URL("./portkey-headers.ts", import.meta.url).href;
const installWithinMs = 180_000;

/** false: it is neither there nor to be had. */
export async function installPortkey(): Promise<boolean> {
  try {
    await access(program);
    return true;
  } catch {
    // Not yet.
  }
  await mkdir(folder, { recursive: true });
  const args = [
    "install",
    "--prefix",
    folder,
    "--no-save",
    "--ignore-scripts",
    `@portkey-ai/gateway@${portkeyVersion}`,
  ];
  try {
    await promisify(execFile)("npm", args, { cwd: folder, timeout: installWithinMs });
    await access(program);
    return true;
  } catch {
    return false;
  }
}

export async function startPortkey(): Promise<Contender> {
  await using starting = new AsyncDisposableStack();
  const upstream = await startUpstream(starting);
  const port = await freePort();
  const args = ["--import", headersFix, program, `--port=${port}`, "--headless"];
  const portkey = starting.use(startProgram({ name: "portkey", command: process.execPath, args, folder }));
  await waitFor("Portkey to listen", portkey, 20_000, () => accepts(port));
  const resources = starting.move();
  return {
    name: "portkey",
    port,
    headers: {
      authorization: "Bearer bench",
      "x-portkey-provider": "openai",
      "x-portkey-custom-host": `http://127.0.0.1:${upstream.port}/v1`,
    },
    processes: () => ({ own: { portkey: [portkey.pid] }, far: [upstream.pid] }),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  };
}
