/** Networks on ONNX Runtime Web, in a browser and in Node. */

import * as ort from "onnxruntime-web";

import type { Planes } from "./arrays.js";
import type { Network } from "./tiles.js";

/** A network from the bytes or the address of an ONNX file; `options` are those of ONNX Runtime Web. */
export async function loadNetwork(
  model: Uint8Array | string, options: ort.InferenceSession.SessionOptions = { executionProviders: ["wasm"] },
): Promise<Network> {
  // The two calls are the same, but each overload takes one type.
  const session = await (typeof model === "string"
    ? ort.InferenceSession.create(model, options)
    : ort.InferenceSession.create(model, options));
  return async (inputs) => {
    const feeds: Record<string, ort.Tensor> = {};
    for (const name of session.inputNames) {
      const planes = inputs[name];
      if (!planes) throw new Error(`the network wants an input "${name}" that the harness does not give`);
      feeds[name] = new ort.Tensor("float32", planes.data, [1, planes.channels, planes.height, planes.width]);
    }
    const results = await session.run(feeds);
    const output = results[session.outputNames[0]];
    const planes = toPlanes(output.data as Float32Array, output.dims);
    output.dispose();
    return planes;
  };
}

function toPlanes(data: Float32Array, dims: readonly number[]): Planes {
  const [, channels, height, width] = dims;
  return { channels, height, width, data: Float32Array.from(data) };
}
