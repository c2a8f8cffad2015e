// A Docker Engine without containers: speaks the part of the Engine's HTTP API that the docker driver uses, and runs each "container" as a process of
// this machine with the container's command and environment, and nothing else of this process's own. Strict: unknown routes, fields, filters and
// parameters are refused, and so is what a real Engine refuses (a name that is taken, an image that is not there, removing what runs).
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { bodyOf, type LabelFilter, labelFilter, Refusal, refuseUnknown, send } from "./docker-http.ts";
import { createDockerVolumes } from "./docker-volumes.ts";

export interface DockerEngine extends AsyncDisposable {
  /** http://127.0.0.1:PORT. */
  readonly url: string;
  /** What is asked for and this Engine does not know. A test expects it to be empty. */
  readonly complaints: readonly string[];
  /** Bodies of what was created, in order. */
  readonly created: readonly CreateBody[];
  containers(): readonly Container[];
  /** Name → labels. */
  readonly volumes: ReadonlyMap<string, Readonly<Record<string, string>>>;
  /** SIGKILL to the container's process, as the kernel's out-of-memory killer does. */
  kill(name: string): void;
  /** Removes every volume. */
  prune(): void;
  /** Waits for this before it creates the next container. */
  beforeNextCreation(task: () => Promise<void>): void;
  /** Ends every open stream of events, as a restart of the Engine does. */
  breakEvents(): void;
  /** The next so many requests are answered with 500. */
  failNext(count: number): void;
}

export interface DockerEngineOptions {
  /** The program that stands for the image: run as `node PROGRAM COMMAND…`. */
  readonly program: string;
  readonly image?: string;
  /** Environment of every container beyond its own, such as PATH. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Where every container works. Default: where this process does. */
  readonly directory?: string;
}

interface CreateBody {
  readonly Image: string;
  readonly Cmd: readonly string[];
  readonly Env: readonly string[];
  readonly Labels: Readonly<Record<string, string>>;
  readonly HostConfig: Readonly<Record<string, unknown>>;
  readonly [field: string]: unknown;
}

export interface Container {
  readonly id: string;
  readonly name: string;
  readonly body: CreateBody;
  readonly createdAt: number;
  state: "created" | "running" | "exited";
  exitCode: number;
  process: ChildProcess | undefined;
}

const createFields = ["Image", "Cmd", "Env", "Labels", "StopSignal", "Healthcheck", "HostConfig"];
const hostFields = [
  "NetworkMode",
  "Memory",
  "NanoCpus",
  "PidsLimit",
  "RestartPolicy",
  "LogConfig",
  "CapDrop",
  "SecurityOpt",
  "Mounts",
];

export async function startDockerEngine(options: DockerEngineOptions): Promise<DockerEngine> {
  const { image = "drawbridge" } = options;
  const containers = new Map<string, Container>();
  const { volumes, answer: answerVolumes } = createDockerVolumes();
  const complaints: string[] = [];
  const created: CreateBody[] = [];
  const watchers = new Set<{
    readonly response: ServerResponse;
    readonly matches: LabelFilter;
  }>();
  let failing = 0;
  let beforeCreation: (() => Promise<void>) | undefined;

  const find = (reference: string): Container => {
    const found =
      containers.get(reference) ?? [...containers.values()].find(({ name }) => name === reference.replace(/^\//, ""));
    if (!found) throw new Refusal(404, `No such container: ${reference}`);
    return found;
  };

  function create(name: string, body: CreateBody): Container {
    refuseUnknown("container", body, createFields);
    refuseUnknown("HostConfig", body.HostConfig, hostFields);
    if (body.Image !== image) throw new Refusal(404, `No such image: ${body.Image}:latest`);
    if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/.test(name)) throw new Refusal(400, `Invalid container name (${name})`);
    for (const each of containers.values()) {
      if (each.name === name) throw new Refusal(409, `Conflict. The container name "/${name}" is already in use.`);
    }
    const container: Container = {
      id: randomBytes(32).toString("hex"),
      name,
      body,
      createdAt: Math.floor(Date.now() / 1_000),
      state: "created",
      exitCode: 0,
      process: undefined,
    };
    containers.set(container.id, container);
    created.push(body);
    return container;
  }

  function start(container: Container): number {
    if (container.state === "running") return 304;
    const environment = Object.fromEntries(
      container.body.Env.map((pair) => [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)]),
    );
    const child = spawn(process.execPath, [options.program, ...container.body.Cmd], {
      stdio: ["ignore", "ignore", "ignore"],
      detached: true,
      env: { ...options.environment, ...environment },
      ...(options.directory === undefined ? {} : { cwd: options.directory }),
    });
    container.process = child;
    container.state = "running";
    child.once("exit", (code, signal) => {
      container.state = "exited";
      container.exitCode = code ?? (signal === "SIGKILL" ? 137 : 143);
      const event = {
        Type: "container",
        Action: "die",
        Actor: { ID: container.id, Attributes: { ...container.body.Labels, exitCode: String(container.exitCode) } },
        time: Math.floor(Date.now() / 1_000),
      };
      for (const { response, matches } of watchers) {
        if (matches(container.body.Labels)) response.write(`${JSON.stringify(event)}\n`);
      }
    });
    return 204;
  }

  async function stop(container: Container, seconds: number): Promise<number> {
    const child = container.process;
    if (container.state !== "running" || !child) return 304;
    const exited = once(child, "exit");
    child.kill("SIGTERM");
    const hurry = setTimeout(() => child.kill("SIGKILL"), seconds * 1_000);
    await exited;
    clearTimeout(hurry);
    return 204;
  }

  async function remove(container: Container, force: boolean): Promise<void> {
    if (container.state === "running") {
      if (!force) throw new Refusal(409, `cannot remove container "/${container.name}": container is running`);
      await stop(container, 0);
    }
    containers.delete(container.id);
  }

  function listed(container: Container) {
    const { id, name, body, createdAt, state, exitCode } = container;
    const status = { created: "Created", running: "Up 1 second", exited: `Exited (${exitCode}) 1 second ago` }[state];
    return {
      Id: id,
      Names: [`/${name}`],
      Image: body.Image,
      ImageID: `sha256:${"0".repeat(64)}`,
      Command: body.Cmd.join(" "),
      Created: createdAt,
      Ports: [],
      Labels: body.Labels,
      State: state,
      Status: status,
      HostConfig: { NetworkMode: body.HostConfig["NetworkMode"] },
      Mounts: [],
    };
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://engine");
    const path = url.pathname.replace(/^\/v1\.\d+/, "");
    const route = `${request.method} ${path.replace(/^(\/containers\/)[^/]+(?=\/|$)(?<!\/containers\/(?:json|create))/, "$1{id}")}`;
    const reference = decodeURIComponent(path.split("/")[2] ?? "");
    const known = (...names: readonly string[]) => {
      for (const name of url.searchParams.keys()) {
        if (!names.includes(name)) throw new Refusal(400, `unknown parameter ${name} of ${route}`);
      }
    };
    if (failing > 0) {
      failing -= 1;
      throw new Refusal(500, "the engine has trouble");
    }
    if (path.startsWith("/volumes")) {
      known("filters");
      const answered = await answerVolumes(request, url, path);
      if (answered) return send(response, answered.status, answered.body);
    }
    if (route === "GET /containers/json") {
      known("all", "filters");
      const matches = labelFilter(url.searchParams.get("filters"), ["label"]);
      const all = url.searchParams.get("all") === "true";
      const found = [...containers.values()].filter(
        (each) => matches(each.body.Labels) && (all || each.state === "running"),
      );
      return send(response, 200, found.map(listed));
    }
    if (route === "POST /containers/create") {
      known("name");
      const task = beforeCreation;
      beforeCreation = undefined;
      await task?.();
      const container = create(url.searchParams.get("name") ?? "", (await bodyOf(request)) as CreateBody);
      return send(response, 201, { Id: container.id, Warnings: [] });
    }
    if (route === "POST /containers/{id}/start") {
      known();
      return send(response, start(find(reference)));
    }
    if (route === "POST /containers/{id}/stop") {
      known("t", "signal");
      return send(response, await stop(find(reference), Number(url.searchParams.get("t") ?? 10)));
    }
    if (route === "DELETE /containers/{id}") {
      known("force", "v");
      await remove(find(reference), url.searchParams.get("force") === "true");
      return send(response, 204);
    }
    if (route === "GET /events") {
      known("filters", "since");
      const matches = labelFilter(url.searchParams.get("filters"), ["label", "type", "event"]);
      response.writeHead(200, { "content-type": "application/json" });
      response.flushHeaders();
      const watcher = { response, matches };
      watchers.add(watcher);
      response.once("close", () => watchers.delete(watcher));
      return;
    }
    complaints.push(route);
    throw new Refusal(404, `page not found: ${route}`);
  }

  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => {
      const status = error instanceof Refusal ? error.status : 500;
      if (status === 400) complaints.push(String(error));
      send(response, status, { message: error instanceof Error ? error.message : String(error) });
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    complaints,
    created,
    containers: () => [...containers.values()],
    volumes,
    kill: (name) => void find(name).process?.kill("SIGKILL"),
    prune: () => volumes.clear(),
    beforeNextCreation: (task) => void (beforeCreation = task),
    breakEvents() {
      for (const { response } of watchers) response.destroy();
    },
    failNext: (count) => void (failing = count),
    async [Symbol.asyncDispose]() {
      for (const container of containers.values()) await stop(container, 0);
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}
