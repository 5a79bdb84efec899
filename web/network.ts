/** Networks as the harness calls them. */

import type { Planes } from "./arrays.js";

/**
 * Runs a graph: its inputs by name in, its one output out.
 *
 * `given`: whoever calls does not need the inputs any more, so that their memory may be handed to another worker.
 */
export type Run = (inputs: Readonly<Record<string, Planes>>, given?: boolean) => Promise<Planes>;
