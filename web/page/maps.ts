/** The maps of the open photo in the worker: the one in its file, and the one that the depth network gives. */

import type { Photo, Planes } from "../arrays.js";
import type { Constants } from "../constants.js";
import { normalised } from "../focus.js";
import { showsWhole } from "../harness.js";
import type { DepthSource } from "./engine.js";

export class Maps {
  private readonly known: Partial<Record<DepthSource, Planes>>;

  /** `embedded`: as `ownMap` gives it; `predict` is called once at most. */
  constructor(readonly embedded: Planes | null, private readonly predict: () => Promise<Planes>) {
    this.known = embedded ? { embedded } : {};
  }

  async from(source: DepthSource): Promise<Planes> {
    if (source === "predicted") this.known.predicted ??= await this.predict();
    const map = this.known[source];
    if (!map) throw new Error("This photo holds no depth map that can be used.");
    return map;
  }
}

/** The depth map in the photo as disparity; null where there is none that can be used, and `notes` says why. */
export function ownMap(depth: Planes | null, photo: Photo, constants: Constants, notes: string[]): Planes | null {
  if (!depth) return null;
  if (!showsWhole(depth, photo, constants)) {
    notes.push("The depth map in the photo is not used: it does not show the whole photo.");
    return null;
  }
  const map = normalised(depth, constants);
  if (map.data.every((value) => value === 0)) {
    notes.push("The depth map in the photo is not used: it is the same everywhere.");
    return null;
  }
  return map;
}
