// A small MCP client over streamable HTTP, for agents of tests.

export interface ToolClient {
  readonly server: string;
  /** What the server offered. */
  readonly offered: unknown;
  connect(): Promise<void>;
  /** The result of a call; progress is counted in it. */
  call(name: string, given: unknown, signal: AbortSignal): Promise<unknown>;
}

export function createToolClient({ name: server, url }: { name: string; url: string }): ToolClient {
  let nextId = 1;
  let offered: unknown;

  async function post(message: object, signal?: AbortSignal): Promise<Response> {
    return await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/json, text/event-stream" },
      body: JSON.stringify({ jsonrpc: "2.0", ...message }),
      ...(signal ? { signal } : {}),
    });
  }

  async function request(method: string, params: object): Promise<Record<string, unknown>> {
    const response = await post({ id: nextId++, method, params });
    const { result } = (await response.json()) as { result: Record<string, unknown> };
    return result;
  }

  return {
    server,
    get offered() {
      return offered;
    },
    async connect() {
      await request("initialize", {
        protocolVersion: "2025-06-18",
        capabilities: {},
        clientInfo: { name: "test", version: "1" },
      });
      await post({ method: "notifications/initialized" });
      offered = (await request("tools/list", {}))["tools"];
    },
    async call(name, given, signal) {
      const id = nextId++;
      const params = { name, arguments: given, _meta: { progressToken: id } };
      try {
        const response = await post({ id, method: "tools/call", params }, signal);
        const messages = [...(await response.text()).matchAll(/^data: (.*)$/gm)].map(
          (match) => JSON.parse(match[1] ?? "") as Record<string, unknown>,
        );
        const answer = messages.find((message) => message["id"] === id);
        return { ...(answer?.["result"] as object), progress: messages.length - 1 };
      } catch (error) {
        if (signal.aborted) return "cancelled";
        throw error;
      }
    },
  };
}
