// GET /admin/usage: the ledger as CSV or JSON lines, streamed page by page as the client takes it.
import { Readable } from "node:stream";
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { AdminRole } from "#gen/drawbridge/v1/access_service";
import type { UsageEntry } from "#gen/drawbridge/v1/usage";
import { usageContentTypes, usageFormats, usageText } from "../../client/usage-export.ts";
import type { Ledger, State, UsageQuery } from "../../state/state.ts";
import { authorizeAdmin } from "../access/admin.ts";
import { ParameterError } from "../openai/parse.ts";

export interface ExportRouteOptions {
  readonly state: Pick<State, "access" | "ledger">;
  readonly pepper: string;
}

const time = z.iso.datetime({ offset: true }).transform((text) => Date.parse(text));

const exportQuery = z.strictObject({
  format: z.enum(usageFormats).default("csv"),
  user: z.string().max(128).optional(),
  key: z.string().max(128).optional(),
  model: z.string().max(256).optional(),
  since: time.optional(),
  until: time.optional(),
});

export function addExportRoute(app: FastifyInstance, { state, pepper }: ExportRouteOptions): void {
  app.get("/admin/usage", async (request, reply) => {
    const { authorization } = request.headers;
    await authorizeAdmin({ access: state.access, authorization, pepper, role: AdminRole.READ_ONLY });
    const query = exportQuery.safeParse(request.query);
    if (!query.success) {
      const [issue] = query.error.issues;
      throw new ParameterError(`${issue?.path.join(".") ?? "query"}: ${issue?.message ?? "is not valid"}.`);
    }
    const { format, user: userId, key: keyId, model, since, until } = query.data;
    const pages = entryPages(state.ledger, { userId, keyId, model, since, until });
    return reply.type(usageContentTypes[format]).send(Readable.from(usageText(pages, format)));
  });
}

const pageSize = 500;

/** The ledger's entries, newest first, a page at a time. */
async function* entryPages(
  ledger: Pick<Ledger, "usage">,
  query: Omit<UsageQuery, "limit" | "pageToken">,
): AsyncGenerator<readonly UsageEntry[], void, undefined> {
  let pageToken: string | undefined;
  do {
    const { entries, nextPageToken } = await ledger.usage({ ...query, pageToken, limit: pageSize });
    yield entries;
    pageToken = nextPageToken;
  } while (pageToken !== "");
}
