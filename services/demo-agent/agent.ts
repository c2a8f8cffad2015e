// The built-in demo agent: speaks the Agent Client Protocol on standard input and output, has no model behind it, and says so. It answers
// every prompt with a short text, word by word.
import * as acp from "@agentclientprotocol/sdk/unstable";
import { randomUUID } from "node:crypto";
import { Readable, Writable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";

const pauseMs = 15;
const quotedCharsMax = 200;

/** What cancels the turn of each session; undefined while none runs. */
const sessions = new Map<string, AbortController | undefined>();

function promptText(blocks: readonly acp.ContentBlock[]): string {
  return blocks
    .map((block) => (block.type === "text" ? block.text : `[${block.type}]`))
    .join(" ")
    .trim();
}

/** The last lines are what the user just asked; instructions and history stand before them. */
function answerTo(text: string): string {
  const asked = text.length > quotedCharsMax ? `…${text.slice(-quotedCharsMax)}` : text;
  return `I am Drawbridge's built-in demo agent. There is no language model behind me; configure an account of a real agent for real answers. You said: ${asked}`;
}

/** A rough count; it is the demo's own, as a real agent's would be its provider's. */
function countWords(text: string): number {
  return text.split(/\s+/).filter(Boolean).length;
}

async function answer(
  sessionId: string,
  text: string,
  client: acp.AgentContext,
  signal: AbortSignal,
): Promise<acp.PromptResponse> {
  const inputTokens = countWords(text);
  let outputTokens = 0;
  for (const word of answerTo(text).match(/\s*\S+/g) ?? []) {
    if (signal.aborted) return { stopReason: "cancelled" };
    await client.notify(acp.methods.client.session.update, {
      sessionId,
      update: { sessionUpdate: "agent_message_chunk", content: { type: "text", text: word } },
    });
    outputTokens += 1;
    await delay(pauseMs);
  }
  const usage = { inputTokens, outputTokens, totalTokens: inputTokens + outputTokens };
  return { stopReason: signal.aborted ? "cancelled" : "end_turn", usage };
}

const connection = acp
  .agent({ name: "drawbridge-demo" })
  .onRequest(acp.methods.agent.initialize, () => ({
    protocolVersion: acp.PROTOCOL_VERSION,
    agentInfo: { name: "drawbridge-demo", title: "Drawbridge demo agent", version: "1" },
    agentCapabilities: { sessionCapabilities: { close: {} } },
    authMethods: [],
  }))
  .onRequest(acp.methods.agent.session.new, () => {
    const sessionId = randomUUID();
    sessions.set(sessionId, undefined);
    return { sessionId };
  })
  .onRequest(acp.methods.agent.session.close, ({ params }) => {
    sessions.get(params.sessionId)?.abort();
    sessions.delete(params.sessionId);
    return {};
  })
  .onRequest(acp.methods.agent.session.prompt, async ({ params, client }) => {
    const { sessionId } = params;
    if (!sessions.has(sessionId)) throw acp.RequestError.sessionNotFound(sessionId);
    const turn = new AbortController();
    sessions.set(sessionId, turn);
    return await answer(sessionId, promptText(params.prompt), client, turn.signal);
  })
  .onNotification(acp.methods.agent.session.cancel, ({ params }) => sessions.get(params.sessionId)?.abort())
  .connect(
    acp.ndJsonStream(Writable.toWeb(process.stdout), Readable.toWeb(process.stdin) as ReadableStream<Uint8Array>),
  );

await connection.closed;
process.exit(0);
