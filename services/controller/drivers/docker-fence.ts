// The epoch of the leader, on the Engine itself: an empty volume whose label carries it, since labels of volumes are the one thing that outlives all
// containers and that Docker and Podman both list by. Each leader makes its own before it acts, and takes those of its predecessors away; the
// highest one is always there, so a leader that has been replaced is refused whatever its successor did, and if that was nothing.
import type Docker from "dockerode";
import { DrawbridgeError } from "../../kit/errors.ts";
import { createFence } from "../../kit/fence.ts";
import { label } from "./docker-container.ts";
import { unless } from "./docker-errors.ts";

export interface EngineFence {
  /** Writes the epoch down, unless it is lower than one that stands there, or than `seen`: NOT_LEADER. */
  claim(epoch: number, seen?: readonly number[]): Promise<void>;
}

export interface EngineFenceOptions {
  readonly engine: Docker;
  readonly system: string;
  readonly signal: AbortSignal;
}

export function createEngineFence({ engine, system, signal }: EngineFenceOptions): EngineFence {
  const fence = createFence();

  /** Name of a volume → its epoch. */
  async function volumes(): Promise<Map<string, number>> {
    const filters = { label: [`${label.fence}=${system}`] };
    // Without any, Docker's list is null.
    const { Volumes } = (await engine.listVolumes({ filters, abortSignal: signal })) as { Volumes: Volume[] | null };
    return new Map((Volumes ?? []).map(({ Name, Labels }) => [Name, Number(Labels[label.epoch])]));
  }

  async function make(name: string, epoch: number): Promise<void> {
    const body = { Name: name, Labels: { [label.fence]: system, [label.epoch]: String(epoch) } };
    // Apart, since the client would write the body into the address too. A volume of that name that is there already is no error.
    const request = { _query: {}, _body: body, abortSignal: signal };
    await engine.createVolume(request as Docker.VolumeCreateOptions);
  }

  return {
    async claim(epoch, seen = []) {
      fence(epoch);
      // A name that no container's volume has: these begin with the system and a dash.
      const name = `${system}.epoch.${epoch}`;
      let held = await volumes();
      createFence(Math.max(0, ...held.values(), ...seen))(epoch);
      if (held.get(name) !== epoch) {
        await make(name, epoch);
        // Meanwhile another leader may have begun.
        held = await volumes();
        createFence(Math.max(0, ...held.values()))(epoch);
        if (held.get(name) !== epoch) {
          const message = `The volume ${name} is not the leader's. Remove it, or give controller.docker.system another name.`;
          throw new DrawbridgeError("ALREADY_EXISTS", message);
        }
      }
      for (const [other, old] of held) {
        if (old < epoch) await engine.getVolume(other).remove({ abortSignal: signal }).catch(unless(404, 409));
      }
    },
  };
}

type Volume = Pick<Docker.VolumeInspectInfo, "Name" | "Labels">;
