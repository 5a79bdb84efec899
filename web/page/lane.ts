/** A worker that runs the graphs of one network on one core: several of them run several tiles at the same time. */

import type { Planes } from "../arrays.js";
import type { Run } from "../network.js";
import { loadLibrary, openNetwork } from "./library.js";

export interface LaneStart {
  readonly base: string;
  readonly engine: Uint8Array<ArrayBuffer>;
  readonly graphs: readonly Uint8Array<ArrayBuffer>[];
}

export interface LaneRun {
  readonly id: number;
  /** Which of the graphs. */
  readonly graph: number;
  readonly inputs: Readonly<Record<string, Planes>>;
}

export type LaneReply = { readonly id: number } & ({ readonly planes: Planes } | { readonly message: string });

let opened: Promise<Run[]> | null = null;

async function start({ base, engine, graphs }: LaneStart): Promise<Run[]> {
  const library = await loadLibrary(base, "wasm", engine, 1);
  const runs: Run[] = [];
  for (const graph of graphs) runs.push(await openNetwork(library, graph, "wasm"));
  return runs;
}

/** The runs that were asked for: one begins when the one before has ended. */
let queue: Promise<void> = Promise.resolve();

self.onmessage = ({ data }: MessageEvent<LaneStart | LaneRun>): void => {
  if ("engine" in data) {
    opened = start(data);
    opened.catch(() => undefined); // told at the first run
    return;
  }
  queue = queue.then(() => run(data));
};

async function run(data: LaneRun): Promise<void> {
  try {
    const planes = await (await (opened as Promise<Run[]>))[data.graph](data.inputs);
    postMessage({ id: data.id, planes } satisfies LaneReply, { transfer: [planes.data.buffer as ArrayBuffer] });
  } catch (error) {
    postMessage({ id: data.id, message: error instanceof Error ? error.message : String(error) } satisfies LaneReply);
  }
}
