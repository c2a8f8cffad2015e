import { describe, expect, test } from "vitest";
import { Priority } from "#gen/drawbridge/v1/scheduler_service";
import { FairQueue, type Waiting } from "../../../services/scheduler/queue/fair-queue.ts";
import { createServiceRate } from "../../../services/scheduler/queue/service-rate.ts";

interface Item extends Waiting {
  readonly name: string;
}

const { LOW, NORMAL, HIGH } = Priority;
const item = (name: string, userId = "u", priority: Priority = NORMAL): Item => ({ name, userId, priority });

function queueOf(...items: Item[]): FairQueue<Item> {
  const queue = new FairQueue<Item>({ high: 8, normal: 4, low: 1 });
  for (const each of items) queue.add(each);
  return queue;
}

/** Serves `count`, in the order of their turns. */
function serve(queue: FairQueue<Item>, count: number): string[] {
  return Array.from({ length: count }, () => {
    const next = queue.next(() => true, 100);
    if (next) queue.remove(next);
    return next?.name ?? "-";
  });
}

const many = (count: number, userId: string, priority: Priority) =>
  Array.from({ length: count }, () => item(`${userId}${priority}`, userId, priority));

const share = (names: string[], name: string) => names.filter((each) => each === name).length;

describe("turns", () => {
  test("of one user are in the order of arrival", () => {
    expect(serve(queueOf(item("1"), item("2"), item("3")), 4)).toEqual(["1", "2", "3", "-"]);
  });

  test("go round the users, however much one of them wants", () => {
    const queue = queueOf(...many(100, "flood", NORMAL), item("b1", "b"), item("b2", "b"), item("c1", "c"));
    expect(serve(queue, 6)).toEqual(["flood2", "b1", "c1", "flood2", "b2", "flood2"]);
  });

  test("of classes are shared by their weights", () => {
    const queue = queueOf(...many(500, "h", HIGH), ...many(500, "n", NORMAL), ...many(500, "l", LOW));
    const served = serve(queue, 130);
    expect([share(served, "h3"), share(served, "n2"), share(served, "l1")]).toEqual([80, 40, 10]);
  });

  test("are not saved up by a class that did not wait", () => {
    const queue = queueOf(...many(500, "l", LOW));
    serve(queue, 100);
    for (const each of many(500, "h", HIGH)) queue.add(each);
    const served = serve(queue, 90);
    expect(share(served, "h3")).toBeGreaterThanOrEqual(79);
    expect(share(served, "l1")).toBeGreaterThanOrEqual(9);
  });

  test("pass over those that cannot be served, which keep theirs", () => {
    const queue = queueOf(item("1", "a"), item("2", "b"));
    expect(queue.next(({ name }) => name === "2", 100)?.name).toBe("2");
    expect(queue.next(() => true, 100)?.name).toBe("1");
    expect(queue.next(() => false, 100)).toBeUndefined();
    expect(queue.next(({ name }) => name === "1", 1)).toBeUndefined();
    expect(queue.size).toBe(2);
  });
});

test("whoever leaves is gone, wherever they stood", () => {
  const [one, two] = [item("1"), item("2")];
  const queue = queueOf(one, two);
  queue.remove(one);
  queue.remove(one);
  expect(queue.size).toBe(1);
  expect(serve(queue, 2)).toEqual(["2", "-"]);
});

test("who is ahead of a new one counts turns, not length", () => {
  const queue = queueOf(...many(100, "flood", NORMAL), item("b", "b"));
  expect(queue.ahead(item("new", "new"))).toBe(2);
  expect(queue.ahead(item("more", "flood"))).toBe(101);
  expect(queue.ahead(item("new", "new", HIGH))).toBe(0);
  expect(queueOf().ahead(item("new"))).toBe(0);
});

describe("the estimate of a wait", () => {
  /** Served every 100 ms, ten times. */
  function steady() {
    const rate = createServiceRate();
    rate.begin(0);
    for (let at = 100; at <= 1_000; at += 100) rate.served(at);
    return rate;
  }

  test("is unknown until enough was served: the first turn may have waited for a start", () => {
    const rate = createServiceRate();
    rate.begin(0);
    expect(rate.estimateMs(3, 10)).toBeUndefined();
    rate.served(5_000);
    expect(rate.estimateMs(100, 5_000)).toBeUndefined();
  });

  test("is the mean time between turns for each that is ahead", () => {
    const rate = steady();
    expect(rate.estimateMs(0, 1_000)).toBe(100);
    expect(rate.estimateMs(4, 1_000)).toBe(500);
  });

  test("grows while nothing is served, by that time and not for each that is ahead", () => {
    expect(steady().estimateMs(0, 5_000)).toBe(4_000);
    expect(steady().estimateMs(9, 5_000)).toBe(4_900);
  });

  test("survives half a minute without a queue, whoever asked meanwhile", () => {
    const rate = steady();
    rate.begin(31_000);
    expect(rate.estimateMs(1, 31_000)).toBe(200);
    rate.served(31_050);
    expect(rate.estimateMs(1, 31_050)).toBe(200);
  });

  test("is unknown again a minute after the last turn, also where all were refused since", () => {
    const rate = steady();
    for (let at = 1_000; at <= 62_000; at += 1_000) rate.begin(at);
    expect(rate.estimateMs(1, 62_000)).toBeUndefined();
  });
});
