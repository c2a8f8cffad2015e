// The volumes of the Docker Engine for tests: names and labels, and nothing in them.
import type { IncomingMessage } from "node:http";
import { bodyOf, labelFilter, Refusal, refuseUnknown } from "./docker-http.ts";

interface VolumeBody {
  readonly Name: string;
  readonly Labels: Readonly<Record<string, string>>;
}

export interface DockerVolumes {
  /** Name → labels. */
  readonly volumes: Map<string, Readonly<Record<string, string>>>;
  /** undefined: the Engine has no such route. */
  readonly answer: (
    request: IncomingMessage,
    url: URL,
    path: string,
  ) => Promise<{ readonly status: number; readonly body?: unknown } | undefined>;
}

export function createDockerVolumes(): DockerVolumes {
  const volumes: DockerVolumes["volumes"] = new Map();

  /** One that is there already is left as it is. */
  function createVolume(body: VolumeBody) {
    refuseUnknown("volume", body, ["Name", "Labels"]);
    if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(body.Name)) throw new Refusal(400, `Invalid volume name (${body.Name})`);
    if (!volumes.has(body.Name)) volumes.set(body.Name, body.Labels);
    return listedVolume(body.Name, volumes.get(body.Name) ?? {});
  }

  return {
    volumes,
    async answer(request, url, path) {
      const name = decodeURIComponent(path.split("/")[2] ?? "");
      if (request.method === "GET" && path === "/volumes") {
        const matches = labelFilter(url.searchParams.get("filters"), ["label"]);
        const found = [...volumes].filter(([, labels]) => matches(labels));
        const listed = found.map(([each, labels]) => listedVolume(each, labels));
        return { status: 200, body: { Volumes: listed.length === 0 ? null : listed, Warnings: null } };
      }
      if (request.method === "POST" && path === "/volumes/create") {
        return { status: 201, body: createVolume((await bodyOf(request)) as VolumeBody) };
      }
      if (request.method === "DELETE" && name !== "") {
        if (!volumes.delete(name)) throw new Refusal(404, `get ${name}: no such volume`);
        return { status: 204 };
      }
      return undefined;
    },
  };
}

function listedVolume(name: string, labels: Readonly<Record<string, string>>) {
  return { Name: name, Driver: "local", Mountpoint: `/volumes/${name}`, Labels: labels, Scope: "local", Options: null };
}
