/** A worker that runs one network on one core: several of them run several tiles at the same time. */

import type { Planes } from "../arrays.js";
import type { Network } from "../tiles.js";
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

let network: Promise<Network> | null = null;

async function start({ base, engine, graph }: LaneStart): Promise<Network> {
  return openNetwork(await loadLibrary(base, "wasm", engine, 1), graph, "wasm");
}

self.onmessage = async ({ data }: MessageEvent<LaneStart | LaneRun>): Promise<void> => {
  if ("engine" in data) {
    network = start(data);
    network.catch(() => undefined); // told at the first run
    return;
  }
  try {
    const planes = await (await (network as Promise<Network>))(data.inputs);
    postMessage({ id: data.id, planes } satisfies LaneReply, { transfer: [planes.data.buffer as ArrayBuffer] });
  } catch (error) {
    postMessage({ id: data.id, message: error instanceof Error ? error.message : String(error) } satisfies LaneReply);
  }
};
