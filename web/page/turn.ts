/** Taking turns within a worker. */

/** Lets what waits in line go first. */
export function turn(): Promise<void> {
  return new Promise<void>((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => { port1.close(); resolve(); };
    port2.postMessage(null);
  });
}

/** Does some work once all that is at work waits for others. */
export async function later(work: () => Promise<void>): Promise<void> {
  await turn();
  await work();
}
