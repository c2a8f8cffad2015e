// A channel's keys: where they are found, and what each one can do now. One that the upstream refuses stays out until a person acts or its value
// changes; one that is asked to slow down rests until the time that was named.
import { readFile } from "node:fs/promises";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  type ChannelKey,
  type ChannelKeyStatus,
  ChannelKeyStatusSchema,
  ChannelState,
} from "#gen/drawbridge/v1/channel";
import { type Condition, ready } from "./health.ts";
import { keyName } from "../spec.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface UpstreamKey {
  /** Its reference, for people. */
  readonly name: string;
  /** undefined: requests carry no key. */
  readonly secret: string | undefined;
  condition(now: number): Condition;
  /** Out until a person acts. */
  disable(reason: string): void;
  /** Out until a time. */
  rest(until: number, reason: string): void;
  status(now: number): ChannelKeyStatus;
}

/** The keys of a specification, with the states of those that were known before and still have their value. */
export async function resolveKeys(
  references: readonly ChannelKey[],
  environment: Environment,
  before: readonly UpstreamKey[],
): Promise<UpstreamKey[]> {
  if (references.length === 0) return [before.find((key) => key.name === noKey) ?? createKey(noKey, undefined)];
  return await Promise.all(
    references.map(async (reference) => {
      const name = keyName(reference);
      const found = await resolve(reference, environment);
      const known = before.find((key) => key.name === name && key.secret === found.secret);
      if (known) return known;
      const key = createKey(name, found.secret);
      if (found.problem !== undefined) key.disable(found.problem);
      return key;
    }),
  );
}

/** What stands for the key of an upstream that wants none. */
const noKey = "none";

interface Found {
  readonly secret: string | undefined;
  readonly problem?: string;
}

async function resolve({ source }: ChannelKey, environment: Environment): Promise<Found> {
  if (source.case === "fromFile") {
    try {
      return checked((await readFile(source.value, "utf8")).trim(), `the file ${source.value}`);
    } catch (error) {
      return { secret: undefined, problem: `the file cannot be read (${(error as NodeJS.ErrnoException).code})` };
    }
  }
  const value = environment[source.value ?? ""];
  if (value === undefined) return { secret: undefined, problem: `the variable ${source.value} is not set` };
  return checked(value.trim(), `the variable ${source.value}`);
}

/** A key that no header can carry is told here, and not by every request. */
function checked(secret: string, where: string): Found {
  if (/^[\x21-\x7e]{1,4096}$/.test(secret)) return { secret };
  return { secret: undefined, problem: `${where} holds no key: 1 to 4096 visible ASCII characters without blanks` };
}

function createKey(name: string, secret: string | undefined): UpstreamKey {
  let out: Condition = ready;
  const condition = (now: number) => (out.until !== undefined && out.until <= now ? ready : out);
  return {
    name,
    secret,
    condition,
    disable: (reason) => void (out = { state: ChannelState.DISABLED, reason, until: undefined }),
    rest(until, reason) {
      const stays = out.state === ChannelState.DISABLED || (out.until !== undefined && out.until >= until);
      if (!stays) out = { state: ChannelState.OPEN, reason, until };
    },
    status(now) {
      const { state, reason, until } = condition(now);
      const time = until === undefined ? {} : { until: timestampFromMs(until) };
      return create(ChannelKeyStatusSchema, { name, state, reason, ...time });
    },
  };
}
