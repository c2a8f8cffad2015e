// What a pool of agent processes should do next. Pure: a view in, actions out; asked again after everything that happens.

export type Phase =
  /** The process starts and opens its first session. */
  | "starting"
  /** Has a session that is ready for a prompt. */
  | "ready"
  /** Runs a prompt. */
  | "busy"
  /** Its prompt waits for its client: the process is taken, the slot is free. */
  | "parked"
  /** Between two prompts: closes a session and opens the next. */
  | "preparing"
  /** Is being ended. */
  | "stopping";

export interface MemberView {
  readonly id: number;
  readonly phase: Phase;
  /** The model of the process or of its ready session, by the agent's name. */
  readonly model: string;
  /** Prompts that it ran. */
  readonly turns: number;
  readonly startedAtMs: number;
  /** When it last became ready. */
  readonly readyAtMs: number;
  /** Resident memory of it and all that it started, when it was last measured; 0: not yet. */
  readonly memoryBytes: number;
}

export interface WaiterView {
  readonly id: number;
  readonly model: string;
  /** The process that holds its conversation; undefined: none. */
  readonly preferred?: number | undefined;
}

export interface PoolView {
  readonly nowMs: number;
  /** Prompts at a time, and so processes. */
  readonly slots: number;
  /** Processes that are kept. */
  readonly processesMin: number;
  readonly members: readonly MemberView[];
  /** First come, first served. */
  readonly waiters: readonly WaiterView[];
  /** Whether a process has the model that it was started with. */
  readonly modelAtStart: boolean;
  /** The model for a process that nobody asked for. */
  readonly defaultModel: string;
  /** Processes that may be started now; 0 while backing off or draining. */
  readonly startsAllowed: number;
  readonly turnsMax: number;
  readonly ageMaxMs: number;
  readonly memoryBytesMax: number;
  readonly idleMaxMs: number;
}

export type PoolAction =
  | { readonly kind: "assign"; readonly waiter: number; readonly member: number }
  | { readonly kind: "start"; readonly model: string }
  | { readonly kind: "stop"; readonly member: number; readonly why: string };

export function planPool(view: PoolView): PoolAction[] {
  const assignments = assign(view);
  const taken = new Set(assignments.map(({ member }) => member));
  const served = new Set(assignments.map(({ waiter }) => waiter));
  const rest: Rest = {
    view,
    idle: view.members.filter(({ id, phase }) => phase === "ready" && !taken.has(id)),
    waiting: view.waiters.filter(({ id }) => !served.has(id)),
    living: view.members.filter(isLiving),
  };
  return [...assignments, ...(rest.waiting.length > 0 ? grow(rest) : tend(rest))];
}

interface Rest {
  readonly view: PoolView;
  readonly idle: readonly MemberView[];
  readonly waiting: readonly WaiterView[];
  readonly living: readonly MemberView[];
}

type Assignment = Extract<PoolAction, { kind: "assign" }>;

/** Gives ready processes to waiting prompts, the one used last first, so that the others can go when they are not needed. */
function assign(view: PoolView): Assignment[] {
  const { members, waiters, modelAtStart, slots } = view;
  if (waiters.length === 0) return [];
  const ready = members
    .filter((member) => member.phase === "ready" && !isSpent(member, view))
    .sort((a, b) => b.readyAtMs - a.readyAtMs);
  const coming = members.filter(isComing).map(({ model }) => model);
  const full = members.filter(isLiving).length >= slots;
  const busy = members.filter(({ phase }) => phase === "busy").length;
  const assignments: Assignment[] = [];
  for (const waiter of waiters) {
    if (ready.length === 0 || busy + assignments.length >= slots) break;
    const own = ready.findIndex(({ id }) => id === waiter.preferred);
    const same = own >= 0 ? own : ready.findIndex(({ model }) => model === waiter.model);
    const [member] = same >= 0 ? ready.splice(same, 1) : modelAtStart ? [] : ready.splice(0, 1);
    if (member) assignments.push({ kind: "assign", waiter: waiter.id, member: member.id });
    else if (coming.includes(waiter.model)) coming.splice(coming.indexOf(waiter.model), 1);
    // Later prompts for other models must not keep this one waiting for ever: a process is left to make room for it.
    else if (full) ready.pop();
  }
  return assignments;
}

/** Whether it takes a slot, or can. */
function isLiving({ phase }: MemberView): boolean {
  return phase !== "stopping" && phase !== "parked";
}

function isComing({ phase }: MemberView): boolean {
  return phase === "starting" || phase === "preparing";
}

/** Prompts wait: starts processes for those that no process on its way will take, and makes room where another model holds it. */
function grow({ view, idle, waiting, living }: Rest): PoolAction[] {
  const coming = living.filter(isComing).map(({ model }) => model);
  const actions: PoolAction[] = [];
  const spent = idle.filter((member) => isSpent(member, view));
  for (const { id } of spent) actions.push({ kind: "stop", member: id, why: "it has run far too long" });
  const others = idle.filter((member) => !spent.includes(member));
  let count = living.length - spent.length;
  let starts = view.startsAllowed;
  for (const { model } of waiting) {
    const index = view.modelAtStart ? coming.indexOf(model) : coming.length - 1;
    if (index >= 0) {
      coming.splice(index, 1);
    } else if (count < view.slots && starts > 0) {
      actions.push({ kind: "start", model });
      count += 1;
      starts -= 1;
    } else if (count >= view.slots && others.length > 0) {
      const victim = others.shift();
      if (victim) actions.push({ kind: "stop", member: victim.id, why: "another model is asked for" });
    }
  }
  return actions;
}

/** Nobody waits: keeps the minimum, replaces what is worn, ends what is not needed. */
function tend({ view, idle, living }: Rest): PoolAction[] {
  const parked = view.members.filter(({ phase }) => phase === "parked").length;
  if (living.length + parked < view.processesMin) {
    return view.startsAllowed > 0 ? [{ kind: "start", model: view.defaultModel }] : [];
  }
  const worn = living.filter((member) => isWorn(member, view));
  if (worn.length === 0 && living.length <= view.processesMin) return [];
  const fresh = living.length - worn.length;
  const [tired] = idle.filter((member) => isWorn(member, view));
  if (tired) {
    // The replacement comes first, so that a prompt finds a process at any time.
    const replaced =
      fresh >= view.processesMin &&
      (fresh === 0 || living.some((each) => each.phase === "ready" && !worn.includes(each)));
    if (replaced) return [{ kind: "stop", member: tired.id, why: "it has run long enough" }];
    if (fresh < view.processesMin && view.startsAllowed > 0) return [{ kind: "start", model: tired.model }];
    return [];
  }
  const spare = living.length - view.processesMin;
  return idle
    .filter(({ readyAtMs }) => view.nowMs - readyAtMs >= view.idleMaxMs)
    .sort((a, b) => a.readyAtMs - b.readyAtMs)
    .slice(0, Math.max(0, spare))
    .map(({ id }) => ({ kind: "stop", member: id, why: "nothing to do" }));
}

/** To be replaced when nobody waits. */
function isWorn(member: MemberView, view: PoolView): boolean {
  return wear(member, view) >= 1;
}

/** Where somebody always waits: to be replaced in any case, as soon as another can be started. */
function isSpent(member: MemberView, view: PoolView): boolean {
  return wear(member, view) >= 2 && view.startsAllowed > 0;
}

/** 1: it has reached one of its limits. */
function wear({ turns, startedAtMs, memoryBytes }: MemberView, view: PoolView): number {
  return Math.max(turns / view.turnsMax, (view.nowMs - startedAtMs) / view.ageMaxMs, memoryBytes / view.memoryBytesMax);
}
