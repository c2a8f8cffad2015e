// OpenAI's chat completions.
import { after, asResults, type Body, type Dialect, event, lastContent } from "./dialect.ts";
import { reportedUsage } from "./script.ts";

export const chatApi: Dialect = {
  matches: (path) => path.endsWith("/chat/completions"),
  streams: (_path, body) => body["stream"] === true,
  lastUserText: (body) => lastContent(body["messages"], "user", "content"),
  toolResults: (body) => asResults(after(body["messages"], isUser, isResult).map((message) => message["content"])),
  answer(body) {
    const common = { id: "chatcmpl-local", created: 1_700_000_000, model: body["model"] };
    const chunk = (fields: object) => event({ ...common, object: "chat.completion.chunk", ...fields });
    const delta = (content: object, finish: string | null = null) =>
      chunk({ choices: [{ index: 0, delta: content, finish_reason: finish }] });
    return {
      begin: () => delta({ role: "assistant", content: "" }),
      piece: (text) => delta({ content: text }),
      end: () => delta({}, "stop") + chunk({ choices: [], usage: usage() }) + event("[DONE]"),
      calls: (calls) =>
        delta({
          role: "assistant",
          content: null,
          tool_calls: calls.map(({ id, name, input }, index) => ({
            index,
            id,
            type: "function",
            function: { name, arguments: JSON.stringify(input) },
          })),
        }) +
        delta({}, "tool_calls") +
        chunk({ choices: [], usage: usage() }) +
        event("[DONE]"),
      whole: (text) => ({
        ...common,
        object: "chat.completion",
        choices: [{ index: 0, message: { role: "assistant", content: text }, finish_reason: "stop" }],
        usage: usage(),
      }),
    };
  },
};

const isUser = (message: Body) => message["role"] === "user";
const isResult = (message: Body) => message["role"] === "tool";

function usage() {
  const { input_tokens, cached_tokens, output_tokens, reasoning_tokens } = reportedUsage;
  return {
    prompt_tokens: input_tokens,
    prompt_tokens_details: { cached_tokens },
    completion_tokens: output_tokens,
    completion_tokens_details: { reasoning_tokens },
    total_tokens: input_tokens + output_tokens,
  };
}
