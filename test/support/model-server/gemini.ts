// Google's Gemini API.
import { asResults, type Body, type Dialect, event } from "./dialect.ts";
import { reportedUsage } from "./script.ts";

export const geminiApi: Dialect = {
  matches: (path) => /:(?:stream)?generateContent$/i.test(path),
  streams: (path) => path.endsWith(":streamGenerateContent"),
  lastUserText: (body) => JSON.stringify(usersOf(body).findLast((parts) => resultsIn(parts).length === 0) ?? ""),
  toolResults: (body) => asResults(resultsIn(usersOf(body).at(-1))),
  answer() {
    const candidate = (text: string, finish: object) => ({
      candidates: [{ index: 0, content: { role: "model", parts: [{ text }] }, ...finish }],
      modelVersion: "local",
    });
    const last = (text: string) => ({ ...candidate(text, { finishReason: "STOP" }), usageMetadata: usage() });
    return {
      calls: (calls) =>
        event({
          candidates: [
            {
              index: 0,
              content: {
                role: "model",
                parts: calls.map(({ id, name, input }) => ({ functionCall: { id, name, args: input } })),
              },
              finishReason: "STOP",
            },
          ],
          modelVersion: "local",
          usageMetadata: usage(),
        }),
      begin: () => "",
      piece: (text) => event(candidate(text, {})),
      end: () => event(last("")),
      whole: last,
    };
  },
};

function usage() {
  const { input_tokens, cached_tokens, output_tokens, reasoning_tokens } = reportedUsage;
  return {
    promptTokenCount: input_tokens,
    cachedContentTokenCount: cached_tokens,
    candidatesTokenCount: output_tokens - reasoning_tokens,
    thoughtsTokenCount: reasoning_tokens,
    totalTokenCount: input_tokens + output_tokens,
  };
}

/** The parts of what is not the model's; results of tools come in such contents too. */
function usersOf(body: Body): unknown[] {
  const contents = Array.isArray(body["contents"]) ? (body["contents"] as Body[]) : [];
  return contents.filter((content) => content["role"] !== "model").map((content) => content["parts"]);
}

function resultsIn(parts: unknown): unknown[] {
  return Array.isArray(parts) ? (parts as Body[]).flatMap((part) => part["functionResponse"] ?? []) : [];
}
