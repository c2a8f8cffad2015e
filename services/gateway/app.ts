// The gateway: dependencies in, a disposable app out.
import { join } from "node:path";
import type { Client, ServiceImpl } from "@connectrpc/connect";
import type { FastifyInstance } from "fastify";
import type { AccessService } from "#gen/drawbridge/v1/access_service";
import type { SchedulerService } from "#gen/drawbridge/v1/scheduler_service";
import { createFleetClient } from "../client/client.ts";
import { fleetClientSettings } from "../client/config.ts";
import type { WorkerCalls } from "../client/fleet-client.ts";
import type { Clock } from "../kit/clock.ts";
import type { Log } from "../kit/log.ts";
import type { Random } from "../kit/random.ts";
import type { IncomingCall } from "../kit/rpc/interceptors.ts";
import type { State } from "../state/state.ts";
import { createStoreSetup } from "../state/store-setup.ts";
import { createClientAddress } from "./access/addresses.ts";
import { authorizeAdmin } from "./access/admin.ts";
import { createAdmissions } from "./access/admit.ts";
import { createAuthenticator } from "./access/authenticate.ts";
import { createCatalogue } from "./access/catalogue.ts";
import { createAccessHandlers } from "./access/handlers.ts";
import { createHolds } from "./access/holds.ts";
import { leastRole } from "./access/roles.ts";
import { createSettler } from "./access/settle.ts";
import { keepTrimming } from "./access/retention.ts";
import { keepSweeping } from "./access/sweep.ts";
import { createUnsettled } from "./access/unsettled.ts";
import { createAffinity } from "./channels/affinity.ts";
import { applyChannels } from "./channels/manage/apply.ts";
import { createDescribe } from "./channels/manage/describe.ts";
import { createDirectory } from "./channels/directory/directory.ts";
import type { Environment } from "./channels/directory/keys.ts";
import { addChannelMetrics } from "./channels/directory/metrics.ts";
import { withChannelModels } from "./channels/directory/models.ts";
import { channelOf } from "./channels/ledger-account.ts";
import { fleetId } from "./channels/spec.ts";
import type { GatewaySettings } from "./config.ts";
import { createMetrics } from "./http/metrics.ts";
import { createOverloadGuard } from "./http/overload.ts";
import { addRoutes } from "./http/routes.ts";
import { createAnswerCache } from "./openai/idempotency.ts";
import { createModels } from "./openai/models.ts";
import { createResponseStore } from "./responses/store.ts";

export interface GatewayDependencies {
  readonly state: State;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly config: GatewaySettings;
  readonly scheduler: Client<typeof SchedulerService>;
  /** The worker at an address. */
  readonly worker: (address: string) => WorkerCalls;
  /** Where the keys of channels are found that name a variable. */
  readonly environment: Environment;
  /** Makes the first user and keys in a store that has none of them. Absent: somebody else does. */
  readonly bootstrap?: () => Promise<unknown>;
  /** A folder for what has to outlive this process while the store is away. It is made when it is needed. */
  readonly directory: string;
}

export interface GatewayApp extends AsyncDisposable {
  readonly access: ServiceImpl<typeof AccessService>;
  /** Adds the OpenAI-compatible API, probes and metrics. */
  routes(http: FastifyInstance): void;
  /** Throws unless the call carries an admin key whose role suffices. */
  authorizeAdmin(call: IncomingCall): Promise<void>;
  /** Brings the first keys and the configured tiers, prices and channels into the store, and begins to renew and sweep holds. */
  start(): Promise<void>;
  /** Names of models that some channel can serve now, the fleet among them. */
  readyModels(): Promise<string[]>;
  /** From now on new requests are refused; those in flight finish. */
  drain(): void;
}

export function createGatewayApp(dependencies: GatewayDependencies): GatewayApp {
  const { state, clock, random, log, config, scheduler, worker } = dependencies;
  const resources = new AsyncDisposableStack();
  const ending = new AbortController();
  const pepper = config.keyPepper;
  const catalogue = resources.use(createCatalogue(state.access, clock));
  const { ledger } = state;
  const holds = resources.use(createHolds({ ledger, clock, log, ttlMs: config.hold_ttl }));
  const unsettled = createUnsettled(join(dependencies.directory, "unsettled"), log);
  const settler = resources.use(createSettler({ ledger, holds, unsettled, clock, random, log }));
  const admissions = createAdmissions({ ledger, catalogue, holds, settler, clock, log, config });
  const authenticator = resources.use(createAuthenticator({ access: state.access, clock, pepper }));
  const metrics = resources.use(createMetrics());
  const overload = resources.use(
    createOverloadGuard({ limits: config.overload, clock, retryAfterMs: config.retry_after }),
  );
  const clientAddress = createClientAddress(config.trusted_proxies);
  const models = createModels(scheduler, clock);
  const responses = createResponseStore({
    responsesMax: config.stored_responses_max,
    ttlMs: config.stored_responses_ttl,
  });
  const answers = createAnswerCache({ answersMax: config.idempotency_answers_max, ttlMs: config.idempotency_ttl });
  const fleet = resources.use(
    createFleetClient({ scheduler, worker, clock, random, log, settings: fleetClientSettings(config.retry) }),
  );

  const directory = resources.use(
    createDirectory({
      channels: state.channels,
      environment: dependencies.environment,
      clock,
      random,
      log,
      resyncMs: config.channel_refresh,
    }),
  );
  resources.use(addChannelMetrics({ registry: metrics.registry, directory, clock }));
  const describe = createDescribe({
    fleetModels: async () => (await models.list()).map(({ name }) => name),
    status: (id) => directory.status(id),
  });
  const affinity = createAffinity();
  const listedModels = withChannelModels(models, directory);

  const setup = resources.use(
    createStoreSetup({
      state,
      async setUp() {
        await dependencies.bootstrap?.();
        for (const tier of config.tiers) await state.access.setTier(tier);
        for (const price of config.prices) await state.access.setPrice(price);
        await applyChannels(state.channels, config.channels, clock);
      },
      clock,
      log,
    }),
  );

  let draining = false;
  let sweeping: Promise<unknown> = Promise.resolve();
  return {
    access: createAccessHandlers({
      state,
      channels: { channels: state.channels, describe, refresh: () => directory.refresh(), clock },
      clock,
      pepper,
    }),
    routes: (http) =>
      addRoutes(http, {
        authenticator,
        admissions,
        models,
        listedModels,
        metrics,
        directory,
        affinity,
        random,
        fleet,
        answers,
        responses,
        clock,
        log,
        config,
        state,
        pepper,
        overload,
        clientAddress,
        draining: () => draining,
      }),
    async authorizeAdmin({ service, method, header }) {
      const authorization = header.get("authorization") ?? undefined;
      await authorizeAdmin({ access: state.access, authorization, pepper, role: leastRole(service, method) });
    },
    async start() {
      await setup.start();
      await directory.start();
      holds.start();
      for (const outcome of await settler.resume()) {
        if (channelOf(outcome.accountId) === fleetId) void fleet.report(outcome);
      }
      const isOwn = (requestId: string) => holds.has(requestId);
      sweeping = Promise.all([
        keepSweeping(
          { state, isOwn, clock, log, intervalMs: config.sweep_interval, releaseAfterMs: config.hold_ttl },
          ending.signal,
        ),
        keepTrimming({ ledger: state.ledger, clock, log, retentionMs: config.usage_retention }, ending.signal),
      ]);
    },
    readyModels: async () => (await listedModels.list()).filter(({ ready }) => ready).map(({ name }) => name),
    drain() {
      draining = true;
    },
    async [Symbol.asyncDispose]() {
      draining = true;
      ending.abort();
      await sweeping;
      await resources.disposeAsync();
    },
  };
}
