/** The lens blur in INT8, which answers drags where the exact one is too slow; it is loaded once a photo is open. */

import type { Run } from "../network.js";
import { check, fetched, modelFile, type About } from "./models.js";

export class Draft {
  /** Null until it is loaded. */
  run: Run | null = null;
  private loading: Promise<void> | null = null;

  /** `open` makes a network of a graph, and runs it once: a first run takes twice as long. */
  constructor(
    private readonly base: string, private readonly about: About,
    private readonly open: (graph: Uint8Array) => Promise<Run>,
  ) {}

  /** Load it, the first time; throws an `Error` if it can't be had. */
  async load(): Promise<void> {
    this.loading ??= this.loaded();
    try {
      await this.loading;
    } catch (error) {
      this.loading = null; // so that it is tried again with the next photo
      throw error;
    }
  }

  private async loaded(): Promise<void> {
    const { base, about } = this;
    const [graph] = await fetched(base, [modelFile(about)], [about.bytes], () => undefined);
    await check(graph, about);
    this.run = await this.open(graph);
  }
}
