// What the kubelet runs in a worker's container. Commands and no HTTP probes, since the worker's routes want the internal token and a probe's headers
// cannot come from a Secret.

const call = (path: string, port: number, options: string) =>
  `fetch("http://"+process.env.POD_IP+":${port}${path}",{${options}headers:{authorization:"Bearer "+process.env.DRAWBRIDGE_INTERNAL_TOKEN,"content-type":"application/json"}})`;

/** Whether the worker takes prompts. */
export function healthCommand(port: number): string[] {
  return ["node", "-e", `${call("/health", port, "")}.then(r=>process.exit(r.ok?0:1),()=>process.exit(1))`];
}

/** Begins a drain and waits until the worker has ended: SIGTERM comes after this, so prompts in flight finish first. */
export function drainCommand(port: number, graceSeconds: number): string[] {
  const body = `method:"POST",body:JSON.stringify({grace:"${graceSeconds}s"}),`;
  const script = [
    "(async()=>{",
    `await ${call("/drain", port, body)};`,
    `for(;;){await ${call("/health", port, "")};await new Promise(r=>setTimeout(r,500))}`,
    "})().catch(()=>process.exit(0))",
  ].join("");
  return ["node", "-e", script];
}
