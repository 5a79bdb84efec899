/** ONNX Runtime Web, loaded from beside the page. */

import type * as Ort from "onnxruntime-common";

import { networkOf } from "../session.js";
import type { Run } from "../network.js";
import type { Backend } from "./messages.js";
import { overheard, placedBy, type Placed } from "./placement.js";

type Library = typeof Ort;

const FILES: Record<Backend, string> = {
  wasm: "ort-wasm-simd-threaded",
  webgpu: "ort-wasm-simd-threaded.asyncify",
};

/** Where the engine of a backend lies, below the page's address. */
export function engineFile(backend: Backend): string {
  return `ort/${FILES[backend]}.wasm.gz`;
}

/** What a packed file holds. */
export async function unpacked(data: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  // A server may have said that the file is packed; then the browser has unpacked it already.
  if (data[0] !== 0x1f || data[1] !== 0x8b) return data;
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The library, set up with its WebAssembly. */
export async function loadLibrary(
  base: string, backend: Backend, engine: Uint8Array<ArrayBuffer>, threads: number,
): Promise<Library> {
  const library = (backend === "webgpu"
    ? await import("onnxruntime-web/webgpu")
    : await import("onnxruntime-web/wasm")) as unknown as Library;
  library.env.wasm.wasmPaths = { mjs: new URL(`ort/${FILES[backend]}.mjs`, base).href };
  library.env.wasm.wasmBinary = engine as unknown as ArrayBuffer;
  library.env.wasm.numThreads = threads;
  library.env.logLevel = "error";
  return library;
}

/** A network from the bytes of a graph. */
export async function openNetwork(library: Library, graph: Uint8Array, backend: "wasm"): Promise<Run> {
  return networkOf(await library.InferenceSession.create(graph, sessionOptions(backend)), library.Tensor);
}

/** A network on the graphics processor, and what of it runs elsewhere; null: it can't be told. */
export async function openOnGpu(library: Library, graph: Uint8Array): Promise<[Run, Placed | null]> {
  // At its most talkative ONNX Runtime says where each operation runs; nothing else in a browser tells.
  const options = { ...sessionOptions("webgpu"), logSeverityLevel: 0 } as const;
  const [session, lines] = await overheard(() => library.InferenceSession.create(graph, options));
  return [networkOf(session, library.Tensor), placedBy(lines)];
}

function sessionOptions(backend: Backend): Ort.InferenceSession.SessionOptions {
  return {
    executionProviders: [backend], graphOptimizationLevel: "all", enableMemPattern: false,
    // Threads that wait actively after a run would take the cores from the lanes.
    extra: { session: { force_spinning_stop: "1" } },
  };
}

/** How many cores may be used. */
export function coreCount(): number {
  return Math.max(1, Math.min(navigator.hardwareConcurrency || 1, 8));
}
