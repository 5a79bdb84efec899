/** What the networks have made of the open photo alone: it is the same for each focus and aperture. */

import type { Planes } from "../arrays.js";
import type { Features } from "../tiles.js";

/** As much is kept at most, in bytes: a photo of 2048×1536 pixels needs 130 MB. */
const MOST = 2 ** 28;
const MOST_ON_A_PHONE = 2 ** 26;

/** Memory of the device in GB from which it is no small phone; browsers tell at most 8. */
const ENOUGH = 8;

export class KeptFeatures implements Features {
  private readonly kept = new Map<string, Planes>();
  private room = ((navigator as { deviceMemory?: number }).deviceMemory ?? ENOUGH) < ENOUGH ? MOST_ON_A_PHONE : MOST;

  get(place: string): Planes | undefined {
    return this.kept.get(place);
  }

  set(place: string, planes: Planes): void {
    if (this.kept.has(place) || planes.data.byteLength > this.room) return;
    this.room -= planes.data.byteLength;
    this.kept.set(place, { ...planes, data: shared(planes.data) });
  }
}

/** The same numbers where other workers see them without a copy, if this page may have such memory. */
function shared(data: Float32Array): Float32Array {
  if (!globalThis.crossOriginIsolated) return data;
  const out = new Float32Array(new SharedArrayBuffer(data.byteLength));
  out.set(data);
  return out;
}
