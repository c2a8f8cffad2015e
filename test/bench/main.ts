// `npm run bench`: what Drawbridge costs, beside yardsticks in the same run. Prints a table; passes no judgement.
import { execFileSync } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { cpus } from "node:os";
import { resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Contender, type ContenderName, contenderNames } from "./contenders/contender.ts";
import { startDrawbridge, startSplitDrawbridge, valkeyProgram } from "./contenders/drawbridge.ts";
import { haproxyVersion, startHaproxy } from "./contenders/haproxy.ts";
import { nginxVersion, startNginx } from "./contenders/nginx.ts";
import { startNodeProxy } from "./contenders/node-proxy.ts";
import { installPortkey, startPortkey } from "./contenders/portkey.ts";
import { holdStreams, soak } from "./endurance.ts";
import { createLoadGenerator, type LoadGenerator } from "./load/client.ts";
import { measureWindow } from "./measure.ts";
import { measureMemory, memoryScenario, streamsMax } from "./memory.ts";
import { type BenchOptions, readOptions, usage } from "./options.ts";
import { endAllProcesses } from "./processes.ts";
import { profileSummaries } from "./profiles.ts";
import { baselineOf, createResults, record, type Results, table } from "./report.ts";
import { type Scenario, scenarios, slotsNeeded, warmUpPlan } from "./scenarios.ts";

const print = (text: string) => process.stdout.write(`${text}\n`);
const progress = (text: string) => process.stderr.write(`${text}\n`);

const warmUpMs = 4_000;

/** Failed requests make a figure worthless, so they are said aloud. */
const problems: string[] = [];

type Use = "streams" | "memory";

function start(name: ContenderName, use: Use, profileFolder: string | undefined): Promise<Contender> {
  const product =
    use === "streams"
      ? ({ agent: "fast", slots: slotsNeeded, profileFolder } as const)
      : ({ agent: "idle", slots: streamsMax, profileFolder } as const);
  switch (name) {
    case "bare-proxy":
      return startNodeProxy(name, "./bare-proxy-server.ts");
    case "undici":
      return startNodeProxy(name, "./undici-proxy-server.ts");
    case "fastify":
      return startNodeProxy(name, "./fastify-proxy-server.ts");
    case "nginx":
      return startNginx();
    case "haproxy":
      return startHaproxy();
    case "portkey":
      return startPortkey();
    case "drawbridge":
      return startDrawbridge(product);
    case "split-sqlite":
    case "split-valkey":
      return startSplitDrawbridge(name, product);
  }
}

/** Of the chosen ones, those that this machine has; says which are left out. */
async function present(chosen: ReadonlySet<ContenderName>): Promise<ContenderName[]> {
  const missing = new Map<ContenderName, string>();
  if (!nginxVersion()) missing.set("nginx", "nginx is not on the PATH");
  if (!haproxyVersion()) missing.set("haproxy", "haproxy is not on the PATH");
  if (!valkeyProgram()) missing.set("split-valkey", "neither valkey-server nor redis-server is on the PATH");
  if (chosen.has("portkey") && !(await installPortkey())) missing.set("portkey", "it cannot be installed from npm");
  for (const [name, why] of missing) if (chosen.has(name)) print(`${name} is left out: ${why}.`);
  return contenderNames.filter((name) => chosen.has(name) && !missing.has(name));
}

async function measureStreams(names: readonly ContenderName[], options: BenchOptions, results: Results): Promise<void> {
  const chosen = scenarios.filter((each) => options.scenarios.has(each.name));
  if (chosen.length === 0) return;
  await using stack = new AsyncDisposableStack();
  const load = stack.use(createLoadGenerator());
  const contenders: Contender[] = [];
  for (const name of names) {
    progress(`starting ${name}`);
    contenders.push(stack.use(await start(name, "streams", options.profileFolder)));
  }
  for (const contender of contenders) {
    progress(`warming up ${contender.name}`);
    await load.start(warmUpPlan(contender));
    await sleep(warmUpMs);
    await load.stop(2_000);
  }
  for (const scenario of chosen) await measureRounds(scenario, contenders, load, options, results);
}

/** A B C, A B C: whatever else the machine does falls on all. */
async function measureRounds(
  scenario: Scenario,
  contenders: readonly Contender[],
  load: LoadGenerator,
  options: BenchOptions,
  results: Results,
): Promise<void> {
  for (let round = 1; round <= options.rounds; round += 1) {
    progress(`${scenario.name}, round ${round} of ${options.rounds}`);
    for (const contender of contenders) {
      const window = await measureWindow(contender, load, scenario.window(contender, options.seconds * 1_000));
      results.record(scenario, contender.name, scenario.metrics(window));
      const about = `${scenario.name}, ${contender.name}, round ${round}`;
      if (window.failures > 0)
        problems.push(`${about}: ${window.failures} requests failed; the first: ${window.firstFailure}`);
      if (window.skipped > 0)
        problems.push(`${about}: ${window.skipped} requests could not be begun when they were due`);
    }
  }
}

async function measureMemories(
  names: readonly ContenderName[],
  options: BenchOptions,
  results: Results,
): Promise<void> {
  if (!options.scenarios.has(memoryScenario.name)) return;
  for (const name of names) {
    progress(`${memoryScenario.name}, ${name}`);
    await using contender = await start(name, "memory", options.profileFolder);
    const { metrics, failures, firstFailure } = await measureMemory(contender);
    results.record(memoryScenario, name, metrics);
    if (failures > 0)
      problems.push(`${memoryScenario.name}, ${name}: ${failures} requests failed; the first: ${firstFailure}`);
  }
}

function commit(): string {
  try {
    return execFileSync("git", ["rev-parse", "--short", "HEAD"], { cwd: import.meta.dirname, encoding: "utf8" }).trim();
  } catch {
    return "unknown";
  }
}

/** false: nothing of the kind was asked for. */
async function endure(options: BenchOptions): Promise<boolean> {
  const { streams, minutes, profileFolder, jsonFile } = options;
  if (streams === undefined && !options.soak) return false;
  const product =
    streams === undefined
      ? ({ agent: "fast", slots: slotsNeeded, profileFolder } as const)
      : ({ agent: "idle", slots: streams, profileFolder } as const);
  await using contender = await startDrawbridge(product);
  const result =
    streams === undefined
      ? await soak(contender, minutes, print)
      : await holdStreams(contender, streams, minutes, print);
  print(
    `${result.name}: ${result.failures} failures${result.firstFailure ? `; the first: ${result.firstFailure}` : ""}`,
  );
  if (jsonFile) await writeFile(jsonFile, `${JSON.stringify(result, undefined, 2)}\n`);
  if (result.failures > 0) process.exitCode = 1;
  return true;
}

async function run(options: BenchOptions): Promise<void> {
  if (await endure(options)) return;
  const names = await present(options.contenders);
  if (options.profileFolder) await mkdir(options.profileFolder, { recursive: true });

  const results = createResults();
  await measureStreams(names, options, results);
  await measureMemories(names, options, results);

  const { rounds, seconds } = options;
  const [cpu] = cpus();
  const facts = {
    commit: commit(),
    node: process.version,
    nginx: nginxVersion(),
    cpu: cpu?.model,
    cores: cpus().length,
    rounds,
    seconds,
  };
  print(
    `\n${rounds} rounds of ${seconds} s; median (min–max) ×ratio to ${baselineOf(results.rows())}. Memory: one round.`,
  );
  print(`commit ${facts.commit}, node ${facts.node}, ${facts.cores} × ${facts.cpu}\n`);
  print(table(results.rows()));
  for (const problem of problems) print(`! ${problem}`);
  if (options.jsonFile) {
    await writeFile(options.jsonFile, record(results.rows(), { ...facts, at: new Date().toISOString(), problems }));
  }
  if (options.profileFolder) print(profileSummaries(options.profileFolder));
  if (problems.length > 0) process.exitCode = 1;
}

/** What a run may take at most: its own windows, twice over, and the starts. */
function timeLimitMs({
  rounds,
  seconds,
  scenarios: chosen,
  contenders,
  streams = 0,
  soak: soaks,
  minutes,
}: BenchOptions): number {
  if (streams > 0 || soaks) return 600_000 + minutes * 90_000 + streams * 200;
  return 120_000 + chosen.size * contenders.size * rounds * (seconds + 2) * 2_000;
}

/** Runs until it is done, the time is up or somebody stops it; in each case nothing is left behind. */
async function runBounded(options: BenchOptions): Promise<void> {
  const limitMs = timeLimitMs(options);
  let ended = "";
  const end = (why: string) => {
    ended = why;
    void endAllProcesses();
  };
  const timer = setTimeout(end, limitMs, `The benchmark did not end within ${limitMs / 1_000} s.`);
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => end(`Stopped (${signal}).`));
  try {
    await run(options);
  } catch (error) {
    // Once its processes were ended, whatever failed for it is no news.
    throw ended === "" ? error : new Error(ended);
  } finally {
    clearTimeout(timer);
  }
}

try {
  const options = readOptions(process.argv.slice(2));
  if (options) await runBounded({ ...options, profileFolder: options.profileFolder && resolve(options.profileFolder) });
  else print(usage);
} catch (error) {
  progress(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
