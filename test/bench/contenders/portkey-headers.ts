// Loaded into Portkey before it starts. It adds its headers to the response of a stream in place, and the headers of what `fetch` gives cannot be
// changed: every stream ends with status 500, in each combination of versions that the registry has. Here they can.
const { fetch } = globalThis;

globalThis.fetch = async (...call) => {
  const response = await fetch(...call);
  Object.defineProperty(response, "headers", { value: new Headers(response.headers) });
  return response;
};
