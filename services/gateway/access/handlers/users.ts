// Users.
import type { ServiceImpl } from "@connectrpc/connect";
import { clone } from "@bufbuild/protobuf";
import { type AccessService, type User, UserSchema } from "#gen/drawbridge/v1/access_service";
import { DrawbridgeError } from "../../../kit/errors.ts";
import { newId } from "../../../kit/random.ts";
import { budgetNow } from "../../../state/budgets.ts";
import type { AccessStore } from "../../../state/state.ts";
import { defaultTierName } from "../../config.ts";
import {
  type AccessHandlerOptions,
  budgetTerms,
  maskedFields,
  nextToken,
  pageSizeDefault,
  required,
} from "./common.ts";

export function userHandlers({ state: { access }, clock }: AccessHandlerOptions) {
  const shown = (user: User) => userNow(user, clock.now());
  return {
    async createUser({ id, tier: name, quotaMicros, budget }) {
      const tier = name || defaultTierName;
      await checkTier(access, tier);
      const user = { id, tier, quotaMicros: Number(quotaMicros), budget: budgetTerms(budget) };
      return { user: shown(await access.createUser(user, clock.now())) };
    },

    async getUser({ id }) {
      const user = await access.getUser(id);
      if (!user) throw new DrawbridgeError("NOT_FOUND", `There is no user "${id}".`);
      return { user: shown(user) };
    },

    async listUsers(request) {
      const size = request.pageSize || pageSizeDefault;
      const users = await access.listUsers(request.pageToken, size + 1);
      return { users: users.slice(0, size).map(shown), nextPageToken: nextToken(users, size) };
    },

    async updateUser({ user, updateMask }) {
      const { id, tier, disabled, budget } = required(user, "user");
      const fields = maskedFields(updateMask?.paths ?? [], ["tier", "disabled", "budget"]);
      const name = tier || defaultTierName;
      if (fields.has("tier")) await checkTier(access, name);
      const changes = {
        ...(fields.has("tier") ? { tier: name } : {}),
        ...(fields.has("disabled") ? { disabled } : {}),
        ...(fields.has("budget") ? { budget: budgetTerms(budget) } : {}),
      };
      return { user: shown(await access.updateUser(id, changes, clock.now())) };
    },

    async deleteUser({ id }) {
      await access.deleteUser(id, clock.now());
      return {};
    },

    async grantQuota(request) {
      const grantId = request.grantId || newId("grant");
      const user = await access.grantQuota(request.userId, grantId, Number(request.quotaMicros), clock.now());
      return { user: shown(user) };
    },
  } satisfies Partial<ServiceImpl<typeof AccessService>>;
}

async function checkTier(access: AccessStore, name: string): Promise<void> {
  if ((await access.listTiers()).some((tier) => tier.name === name)) return;
  throw new DrawbridgeError("NOT_FOUND", `There is no tier "${name}".`);
}

/** A user as the store gave them, with the budget of the present window. */
export function userNow(user: User, now: number): User {
  const budget = budgetNow(user.budget, now);
  if (!budget) return user;
  const shown = clone(UserSchema, user);
  shown.budget = budget;
  return shown;
}
