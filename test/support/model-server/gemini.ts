// Google's Gemini API.
import { type Dialect, event, lastContent } from "./dialect.ts";
import { reportedUsage } from "./script.ts";

export const geminiApi: Dialect = {
  matches: (path) => /:(?:stream)?generateContent$/i.test(path),
  streams: (path) => path.endsWith(":streamGenerateContent"),
  lastUserText: (body) => lastContent(body["contents"], "user", "parts"),
  answer() {
    const candidate = (text: string, finish: object) => ({
      candidates: [{ index: 0, content: { role: "model", parts: [{ text }] }, ...finish }],
      modelVersion: "local",
    });
    const last = (text: string) => ({ ...candidate(text, { finishReason: "STOP" }), usageMetadata: usage() });
    return {
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
