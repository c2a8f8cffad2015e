// The command line of the benchmark.
import { parseArgs } from "node:util";
import { type ContenderName, contenderNames } from "./contenders/contender.ts";
import { memoryScenario } from "./memory.ts";
import { scenarios } from "./scenarios.ts";

export interface BenchOptions {
  readonly rounds: number;
  /** Length of a measured window. */
  readonly seconds: number;
  readonly scenarios: ReadonlySet<string>;
  readonly contenders: ReadonlySet<ContenderName>;
  readonly jsonFile: string | undefined;
  readonly profileFolder: string | undefined;
  /** Streams to hold open, instead of everything else. */
  readonly streams: number | undefined;
  /** Whether to soak, instead of everything else. */
  readonly soak: boolean;
  /** How long these last. */
  readonly minutes: number;
}

const scenarioNames = [...scenarios.map((each) => each.name), memoryScenario.name];

export const usage = `npm run bench -- [options]

  --rounds N       rounds of each scenario, contenders taking turns (default 3)
  --seconds S      length of a measured window (default 2)
  --only A,B       scenarios: ${scenarioNames.join(", ")};
                   contenders: ${contenderNames.join(", ")} (default: all)
  --json FILE      write all values there too
  --streams N      hold N streams open, and nothing else
  --soak           load at 80 % of capacity, and nothing else
  --minutes M      how long these two last (default 5)
  --profile DIR    CPU profiles of Drawbridge's processes, and their top items (slows it down: no figures to keep)
`;

/** undefined: help was asked for. */
export function readOptions(args: readonly string[]): BenchOptions | undefined {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rounds: { type: "string", default: "3" },
      seconds: { type: "string", default: "2" },
      only: { type: "string", default: "" },
      json: { type: "string" },
      profile: { type: "string" },
      streams: { type: "string" },
      soak: { type: "boolean", default: false },
      minutes: { type: "string", default: "5" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return undefined;
  const only = values.only.split(",").filter((each) => each !== "");
  const unknown = only.filter((each) => !scenarioNames.includes(each) && !isContender(each));
  if (unknown.length > 0) throw new Error(`--only: there is no ${unknown.join(", ")}.\n\n${usage}`);
  const chosenScenarios = only.filter((each) => scenarioNames.includes(each));
  const chosenContenders = only.filter(isContender);
  return {
    rounds: positive("--rounds", values.rounds, 100),
    seconds: positive("--seconds", values.seconds, 60),
    scenarios: new Set(chosenScenarios.length > 0 ? chosenScenarios : scenarioNames),
    contenders: new Set(chosenContenders.length > 0 ? chosenContenders : contenderNames),
    jsonFile: values.json,
    profileFolder: values.profile,
    streams: values.streams === undefined ? undefined : positive("--streams", values.streams, 20_000),
    soak: values.soak,
    minutes: positive("--minutes", values.minutes, 600),
  };
}

function isContender(name: string): name is ContenderName {
  return contenderNames.some((each) => each === name);
}

function positive(flag: string, text: string, max: number): number {
  const value = Number(text);
  if (!(value > 0 && value <= max)) throw new Error(`${flag}: expected a number above 0, at most ${max}.`);
  return value;
}
