// What scenarios want of a running system, whichever way it runs: `up`, or every service as a process of its own.
import OpenAI from "openai";
import type { Admin } from "./admin.ts";
import type { SystemProcess } from "./system-processes.ts";

export interface ServingSystem extends AsyncDisposable {
  /** The public addresses, such as http://127.0.0.1:40123. */
  readonly urls: readonly string[];
  readonly apiKey: string;
  readonly adminKey: string;
  /** Where it runs. */
  readonly folder: string;
  /** The typed services, with the admin key. */
  readonly admin: Admin;
  /** An SDK client without retries of its own. Its requests go to all addresses in turn. */
  openai(options?: ClientOptions): OpenAI;
  /** A request without any SDK, to the next address. A body that is no string is sent as JSON. */
  request(path: string, options?: RawRequest): Promise<Response>;
  /** Everything of it that lives: services, workers, agents, and what these started. */
  processes(): Promise<SystemProcess[]>;
  /** What it has printed so far, both channels. */
  printed(): string;
}

/** Starts a system with this drawbridge.yaml, and waits until it serves. */
export type StartServing = (configuration: Readonly<Record<string, unknown>>) => Promise<ServingSystem>;

export interface ClientOptions {
  /** Default: the system's. */
  readonly apiKey?: string;
  readonly maxRetries?: number;
}

export interface RawRequest {
  readonly method?: string;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** null: none. Default: the system's API key. */
  readonly apiKey?: string | null;
  readonly signal?: AbortSignal;
}

/** The clients of a system, which take its addresses in turn, as a balancer before them would. */
export function createClients(urls: readonly string[], systemKey: string): Pick<ServingSystem, "openai" | "request"> {
  let turn = 0;
  const next = () => urls[turn++ % urls.length] ?? "";
  return {
    openai: ({ apiKey = systemKey, maxRetries = 0 } = {}) =>
      new OpenAI({
        baseURL: `${urls[0]}/v1`,
        apiKey,
        maxRetries,
        fetch: (address, init) => {
          const { pathname, search } = new URL(address instanceof Request ? address.url : address);
          return fetch(`${next()}${pathname}${search}`, init);
        },
      }),
    request(path, { method, body, headers, apiKey = systemKey, signal } = {}) {
      const content = body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body);
      const all = new Headers(headers);
      if (apiKey !== null && !all.has("authorization")) all.set("authorization", `Bearer ${apiKey}`);
      if (content !== undefined && !all.has("content-type")) all.set("content-type", "application/json");
      return fetch(`${next()}${path}`, {
        method: method ?? (content === undefined ? "GET" : "POST"),
        headers: all,
        ...(content === undefined ? {} : { body: content }),
        ...(signal ? { signal } : {}),
      });
    },
  };
}

/** /readyz is content with one model; a test talks to all of them. */
export async function everyAccountServes(admin: Admin): Promise<boolean> {
  const [accounts, workers] = await Promise.all([admin.accounts(), admin.workers()]);
  const healthy = new Set(workers.filter((worker) => worker.health === "healthy").map((worker) => worker.id));
  return accounts.every((account) => account.credits === 0 || account.workers.some((id) => healthy.has(id)));
}
