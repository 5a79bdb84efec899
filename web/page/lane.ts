/** A worker that runs a network on one core: several of them run several tiles at the same time. */

import type { Planes } from "../arrays.js";
import type { Run } from "../network.js";
import { loadLibrary, openNetwork } from "./library.js";

export interface LaneStart {
  readonly base: string;
  readonly engine: Uint8Array<ArrayBuffer>;
  readonly graph: Uint8Array<ArrayBuffer>;
}

export interface LaneRun {
  readonly id: number;
  readonly inputs: Readonly<Record<string, Planes>>;
}

export type LaneReply = { readonly id: number } & ({ readonly planes: Planes } | { readonly message: string });

let opened: Promise<Run> | null = null;

async function start({ base, engine, graph }: LaneStart): Promise<Run> {
  return openNetwork(await loadLibrary(base, "wasm", engine, 1), graph, "wasm");
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
    const planes = await (await (opened as Promise<Run>))(data.inputs);
    postMessage({ id: data.id, planes } satisfies LaneReply, { transfer: [planes.data.buffer as ArrayBuffer] });
  } catch (error) {
    postMessage({ id: data.id, message: error instanceof Error ? error.message : String(error) } satisfies LaneReply);
  }
}
