/** A network, as the harness calls it, on a session of ONNX Runtime Web. */

import type { InferenceSession, Tensor, TensorConstructor } from "onnxruntime-common";

import type { Planes } from "./arrays.js";
import type { Run } from "./network.js";

/** What is needed of a session. */
export type Session = Pick<InferenceSession, "inputNames" | "outputNames" | "run">;

/** The graph that `session` runs; `Float` makes its tensors, as each build of ONNX Runtime Web has its own. */
export function networkOf(session: Session, Float: TensorConstructor): Run {
  return async (inputs) => {
    const feeds: Record<string, Tensor> = {};
    for (const name of session.inputNames) {
      const planes = inputs[name];
      if (!planes) throw new Error(`the network wants an input "${name}" that the harness does not give`);
      feeds[name] = new Float("float32", planes.data, [1, planes.channels, planes.height, planes.width]);
    }
    const results = await session.run(feeds);
    const output = results[session.outputNames[0]];
    // The library has copied the numbers out of WebAssembly: nobody else holds them.
    return toPlanes(output.data as Float32Array, output.dims);
  };
}

function toPlanes(data: Float32Array, dims: readonly number[]): Planes {
  const [, channels, height, width] = dims;
  return { channels, height, width, data };
}
