/** Networks on ONNX Runtime Web, in a browser and in Node. */

import * as ort from "onnxruntime-web";

import { networkOf } from "./session.js";
import type { Run } from "./network.js";

/** A network from the bytes or the address of an ONNX file; `options` are those of ONNX Runtime Web. */
export async function loadNetwork(
  model: Uint8Array | string, options: ort.InferenceSession.SessionOptions = { executionProviders: ["wasm"] },
): Promise<Run> {
  // The two calls are the same, but each overload takes one type.
  const session = await (typeof model === "string"
    ? ort.InferenceSession.create(model, options)
    : ort.InferenceSession.create(model, options));
  return networkOf(session, ort.Tensor);
}
