// A cluster of one namespace without containers: speaks the part of the API that the kubernetes driver uses, by its real paths, and runs each Pod as a
// process (kubernetes-kubelet.ts). Strict: unknown routes, parameters and fields are refused, and so is what the Role does not allow.
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { KubeConfig } from "@kubernetes/client-node";
import { createKubelet } from "./kubernetes-kubelet.ts";
import { checkConfigMap, checkPod } from "./kubernetes-rules.ts";
import { type Change, createObjectStore, type Kind, Refusal, type Stored } from "./kubernetes-store.ts";

/** As in a Role. */
export interface Rule {
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
}

export interface KubernetesApiOptions {
  /** The program that stands for the image: run as `node PROGRAM ARGUMENTS…`. */
  readonly program: string;
  /** What the caller may do. Default: everything. */
  readonly rules?: readonly Rule[];
  /** Secrets: name → key → value. */
  readonly secrets?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** Environment of every Pod beyond its own, such as PATH. */
  readonly environment?: Readonly<Record<string, string>>;
  readonly output?: "ignore" | "inherit";
  readonly probes?: boolean;
}

interface Failure {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Which requests fail, as "verb resource". Default: all. */
  readonly call?: string;
}

export const namespace = "fleet";
const token = "service-account-token";
const everything: readonly Rule[] = [
  { resources: ["pods", "configmaps"], verbs: ["create", "delete", "get", "list", "update", "watch"] },
];

export type KubernetesApi = Awaited<ReturnType<typeof startKubernetesApi>>;

interface Asked {
  readonly kind: Kind;
  readonly name: string;
  readonly verb: string;
  readonly query: URLSearchParams;
}

export async function startKubernetesApi(options: KubernetesApiOptions) {
  const { rules = everything, secrets = {}, environment = {}, output = "ignore", probes = false } = options;
  const store = createObjectStore(namespace);
  const kubelet = createKubelet({ store, program: options.program, secrets, environment, output, probes });
  const complaints: string[] = [];
  /** "verb resource" of each request, in order. */
  const calls: string[] = [];
  const watches = new Set<ServerResponse>();
  const pages = new Map<string, Stored[]>();
  let failures: Failure[] = [];
  let pageLimit = Number.POSITIVE_INFINITY;
  let nodeLost = false;

  function create(kind: Kind, body: object): Stored {
    if (kind === "configmaps") {
      checkConfigMap(body);
      return store.create(kind, body);
    }
    checkPod(body);
    const { metadata } = body as Stored;
    for (const { uid } of metadata.ownerReferences ?? []) {
      if (!store.list("configmaps").some((owner) => owner.metadata.uid === uid)) complaints.push(`no owner ${uid}`);
    }
    const pod = store.create(kind, { ...body, status: { phase: "Pending" } });
    setImmediate(() => kubelet.start(pod));
    return pod;
  }

  function update(kind: Kind, body: Stored): Stored {
    if (kind !== "configmaps") throw new Refusal(405, "MethodNotAllowed", "Pods are not replaced here");
    checkConfigMap(body);
    return store.update(kind, body, body.metadata.resourceVersion);
  }

  function remove(kind: Kind, name: string, body: DeleteOptions): Stored {
    const present = store.get(kind, name);
    const { uid } = body.preconditions ?? {};
    if (uid !== undefined && uid !== present.metadata.uid) {
      throw new Refusal(409, "Conflict", `Precondition failed: UID in precondition: ${uid}`);
    }
    if (kind === "configmaps") return store.remove(kind, name);
    const over = present.status?.phase === "Succeeded" || present.status?.phase === "Failed";
    const wanted = over ? 0 : (body.gracePeriodSeconds ?? present.spec?.terminationGracePeriodSeconds ?? 30);
    if (wanted === 0) {
      const gone = store.remove(kind, name);
      void kubelet.end(gone, 0);
      return gone;
    }
    const deletionTimestamp = new Date(Date.now() + wanted * 1_000).toISOString();
    const metadata = { ...present.metadata, deletionTimestamp, deletionGracePeriodSeconds: wanted };
    const ending = store.update(kind, { ...present, metadata });
    if (!nodeLost) void kubelet.end(ending, wanted);
    return ending;
  }

  function list({ kind, query }: Asked): object {
    const matches = selected(query.get("labelSelector"));
    const rest = query.get("continue");
    let items = rest === null ? store.list(kind).filter(matches) : pages.get(rest);
    if (!items) throw new Refusal(410, "Expired", "The provided continue parameter is too old");
    const metadata: Record<string, string> = { resourceVersion: String(store.version()) };
    const limit = Math.min(pageLimit, Number(query.get("limit") ?? Number.POSITIVE_INFINITY));
    if (items.length > limit) {
      metadata["continue"] = `page-${pages.size}`;
      pages.set(metadata["continue"], items.slice(limit));
      items = items.slice(0, limit);
    }
    return { kind: kind === "pods" ? "PodList" : "ConfigMapList", apiVersion: "v1", metadata, items };
  }

  function watch({ kind, query }: Asked, response: ServerResponse): void {
    const matches = selected(query.get("labelSelector"));
    const after = Number(query.get("resourceVersion") ?? Number.NaN);
    if (!Number.isSafeInteger(after))
      throw new Refusal(400, "BadRequest", "a watch without a version is not served here");
    const tell = (change: Change) => {
      if (change.kind !== kind || !matches(change.object)) return;
      response.write(`${JSON.stringify({ type: change.type, object: typed(kind, change.object) })}\n`);
    };
    const past = store.since(after);
    response.writeHead(200, { "content-type": "application/json", "transfer-encoding": "chunked" });
    response.flushHeaders();
    for (const change of past) tell(change);
    const following = store.onChange(tell);
    watches.add(response);
    response.once("close", () => {
      watches.delete(response);
      following[Symbol.dispose]();
    });
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.headers.authorization !== `Bearer ${token}`) throw new Refusal(401, "Unauthorized", "Unauthorized");
    const asked = parse(request);
    const { kind, name, verb } = asked;
    calls.push(`${verb} ${kind}`);
    const failing = failures.findIndex(({ call = `${verb} ${kind}` }) => call === `${verb} ${kind}`);
    const [failure] = failing === -1 ? [] : failures.splice(failing, 1);
    if (failure) {
      for (const [header, value] of Object.entries(failure.headers ?? {})) response.setHeader(header, value);
      throw new Refusal(failure.status, "InternalError", "the server has trouble");
    }
    if (!rules.some((rule) => allows(rule, asked))) {
      throw new Refusal(403, "Forbidden", `cannot ${verb} resource "${kind}" in the namespace "${namespace}"`);
    }
    if (verb === "watch") return watch(asked, response);
    if (verb === "list") return send(response, 200, list(asked));
    if (verb === "get") return send(response, 200, typed(kind, store.get(kind, name)));
    const body = await bodyOf(request);
    if (verb === "create") return send(response, 201, typed(kind, create(kind, body)));
    if (verb === "update") return send(response, 200, typed(kind, update(kind, body as Stored)));
    // A real server allows it; but it may hit another Pod of the same name.
    if (!(body as DeleteOptions).preconditions?.uid) complaints.push(`delete ${name} without a precondition`);
    return send(response, 200, typed(kind, remove(kind, name, body)));
  }

  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => {
      const { status: code, reason } = error instanceof Refusal ? error : { status: 500, reason: "InternalError" };
      const message = error instanceof Error ? error.message : String(error);
      if ([400, 405, 422].includes(code) || !(error instanceof Refusal)) complaints.push(message);
      send(response, code, { kind: "Status", apiVersion: "v1", status: "Failure", message, reason, code });
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  return {
    url,
    /** What is asked for and this server does not know. A test expects it to be empty. */
    complaints,
    calls,
    store,
    /** A configuration of the client for this server. It takes plain HTTP only where it checks no certificates. */
    config(): KubeConfig {
      const config = new KubeConfig();
      config.loadFromClusterAndUser({ name: "test", server: url, skipTLSVerify: true }, { name: "test", token });
      return config;
    },
    pods: () => store.list("pods"),
    watching: () => watches.size,
    /** SIGKILL to the Pod's process. */
    kill: (name: string) => kubelet.kill(store.get("pods", name)),
    /** What `kubectl delete` does. */
    deleteByHand: (kind: Kind, name: string, gracePeriodSeconds?: number) =>
      void remove(kind, name, gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds }),
    /** A watch ends now and then. */
    endWatches() {
      for (const response of watches) response.end();
    },
    /** A connection that is cut. */
    breakWatches() {
      for (const response of watches) response.destroy();
    },
    /** A server that has forgotten the past says so inside an open watch, or when one begins. */
    expireWatches() {
      store.forgetHistory();
      const status = { kind: "Status", code: 410, reason: "Expired", message: "too old resource version" };
      for (const response of watches) response.end(`${JSON.stringify({ type: "ERROR", object: status })}\n`);
    },
    bookmark() {
      const object = { kind: "Pod", apiVersion: "v1", metadata: { resourceVersion: String(store.version()) } };
      for (const response of watches) response.write(`${JSON.stringify({ type: "BOOKMARK", object })}\n`);
    },
    /** The next requests fail like this, one for each. */
    failNext: (...next: readonly Failure[]) => void (failures = [...next]),
    limitPages: (items: number) => void (pageLimit = items),
    /** From here on nobody ends Pods gracefully. */
    loseNode: () => void (nodeLost = true),
    async [Symbol.asyncDispose]() {
      await kubelet[Symbol.asyncDispose]();
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

interface DeleteOptions {
  readonly gracePeriodSeconds?: number;
  readonly preconditions?: { readonly uid?: string };
}

const parameters: Readonly<Record<string, readonly string[]>> = {
  list: ["labelSelector", "limit", "continue"],
  watch: ["watch", "labelSelector", "resourceVersion", "allowWatchBookmarks"],
};

function parse(request: IncomingMessage): Asked {
  const url = new URL(request.url ?? "/", "http://cluster");
  const match = /^\/api\/v1\/namespaces\/([^/]+)\/(pods|configmaps)(?:\/([^/]+))?$/.exec(url.pathname);
  if (!match || match[1] !== namespace)
    throw new Refusal(400, "NotFound", `no route ${request.method} ${url.pathname}`);
  const name = decodeURIComponent(match[3] ?? "");
  const verb = verbOf(request.method ?? "", name !== "", url.searchParams.get("watch") === "true");
  if (!verb) throw new Refusal(405, "MethodNotAllowed", `${request.method} ${url.pathname}`);
  for (const parameter of url.searchParams.keys()) {
    if (!parameters[verb]?.includes(parameter)) throw new Refusal(400, "BadRequest", `unknown parameter ${parameter}`);
  }
  return { kind: match[2] as Kind, name, verb, query: url.searchParams };
}

function verbOf(method: string, named: boolean, watches: boolean): string | undefined {
  if (!named) return method === "POST" ? "create" : method === "GET" ? (watches ? "watch" : "list") : undefined;
  return { GET: "get", PUT: "update", DELETE: "delete" }[method];
}

function allows({ resources, resourceNames, verbs }: Rule, { kind, name, verb }: Asked): boolean {
  return resources.includes(kind) && verbs.includes(verb) && (!resourceNames || resourceNames.includes(name));
}

function selected(selector: string | null): (object: Stored) => boolean {
  const wanted = (selector ?? "").split(",").map((each) => each.split("=", 2));
  return ({ metadata }) => wanted.every(([name = "", value]) => name === "" || metadata.labels?.[name] === value);
}

function typed(kind: Kind, object: Stored): object {
  return { kind: kind === "pods" ? "Pod" : "ConfigMap", apiVersion: "v1", ...object };
}

async function bodyOf(request: IncomingMessage): Promise<object> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return JSON.parse(Buffer.concat(parts).toString() || "{}") as object;
}

function send(response: ServerResponse, status: number, body: object): void {
  if (response.headersSent) return void response.destroy();
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}
