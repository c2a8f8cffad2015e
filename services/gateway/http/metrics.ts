// GET /metrics: counts what the telemetry channels tell.
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { Priority } from "#gen/drawbridge/v1/scheduler_service";
import { metricsOf } from "../../kit/process-group.ts";
import { type RequestEnd, requestEnded, type RequestShed, requestShed, requestStarted } from "./telemetry.ts";

export interface Metrics extends Disposable {
  /** For parts that count things of their own. */
  readonly registry: Registry;
  readonly contentType: string;
  text(): Promise<string>;
}

const secondsBuckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600];

const priorityNames = new Map<Priority, string>([
  [Priority.LOW, "low"],
  [Priority.NORMAL, "normal"],
  [Priority.HIGH, "high"],
]);

export function createMetrics(): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const requests = new Counter({
    name: "drawbridge_requests_total",
    help: "Requests, by route, status, model and how the answer ended.",
    labelNames: ["route", "status", "model", "end"],
    registers,
  });
  const inFlight = new Gauge({ name: "drawbridge_requests_in_flight", help: "Requests that run.", registers });
  const duration = new Histogram({
    name: "drawbridge_request_duration_seconds",
    help: "Time of whole requests.",
    labelNames: ["route"],
    buckets: secondsBuckets,
    registers,
  });
  const firstContent = new Histogram({
    name: "drawbridge_first_content_seconds",
    help: "Time to the first content of an answer.",
    labelNames: ["model"],
    buckets: secondsBuckets,
    registers,
  });
  const tokens = new Counter({
    name: "drawbridge_tokens_total",
    help: "Tokens of settled requests.",
    labelNames: ["model", "direction"],
    registers,
  });
  const cost = new Counter({
    name: "drawbridge_cost_micros_total",
    help: "Settled cost, in millionths of a dollar.",
    labelNames: ["model"],
    registers,
  });

  const shed = new Counter({
    name: "drawbridge_requests_shed_total",
    help: "Requests that were refused because of overload, by what there was too much of and by priority.",
    labelNames: ["cause", "priority"],
    registers,
  });

  const onShed = (message: unknown) => {
    const { cause, priority } = message as RequestShed;
    shed.inc({ cause, priority: priorityNames.get(priority) ?? "normal" });
  };
  const onStart = () => inFlight.inc();
  const onEnd = (message: unknown) => {
    const { route, status, model, end, ...figures } = message as RequestEnd;
    inFlight.dec();
    requests.inc({ route, status: String(status), model, end });
    duration.observe({ route }, figures.durationMs / 1_000);
    if (figures.firstContentMs !== undefined) firstContent.observe({ model }, figures.firstContentMs / 1_000);
    tokens.inc({ model, direction: "input" }, figures.inputTokens);
    tokens.inc({ model, direction: "output" }, figures.outputTokens);
    cost.inc({ model }, figures.costMicros);
  };
  requestShed.subscribe(onShed);
  requestStarted.subscribe(onStart);
  requestEnded.subscribe(onEnd);
  return {
    registry,
    contentType: registry.contentType,
    text: metricsOf(registry),
    [Symbol.dispose]() {
      requestShed.unsubscribe(onShed);
      requestStarted.unsubscribe(onStart);
      requestEnded.unsubscribe(onEnd);
    },
  };
}
