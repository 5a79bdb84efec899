/** Networks as the harness calls them. */

import type { Planes } from "./arrays.js";

/**
 * Runs a graph: its inputs by name in, its one output out.
 *
 * `given`: whoever calls does not need the inputs any more, so that their memory may be handed to another worker.
 */
export type Run = (inputs: Readonly<Record<string, Planes>>, given?: boolean) => Promise<Planes>;

/** A network cut where what depends on the photo alone ends; `rest` takes what `photo` gives by the name `feature`. */
export interface Parts {
  readonly feature: string;
  readonly photo: Run;
  readonly rest: Run;
}

/** Runs a network. See onnx.ts. */
export type Network = Run & { readonly parts?: Parts };

/** A network of two parts. */
export function joinedParts(parts: Parts): Network {
  const run: Run = async (inputs, given) => parts.rest({ ...inputs, [parts.feature]: await parts.photo(inputs) }, given);
  return Object.assign(run, { parts });
}
