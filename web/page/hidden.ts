/** What is fully transparent gets the colour of what is beside it: what stands there in the file is anything, often black. */

import type { Photo } from "../arrays.js";

/** Sums of colours and how many pixels are in them, row by row. */
interface Sums {
  readonly height: number;
  readonly width: number;
  readonly colours: Float32Array;
  readonly counts: Float32Array;
}

/** Changes the pixels of `photo` where `alpha` is 0 to the mean colour of the nearest that can be seen. */
export function fillHidden(photo: Photo, alpha: Uint8Array): void {
  const { height, width, data } = photo;
  if (!alpha.includes(0) || alpha.every((value) => value === 0)) return;
  const counts = Float32Array.from(alpha, (value) => (value > 0 ? 1 : 0));
  const colours = Float32Array.from({ length: 3 * height * width }, (_, i) => data[i] * counts[Math.floor(i / 3)]);
  const means = filled({ height, width, colours, counts });
  for (let i = 0; i < alpha.length; i++) {
    if (alpha[i] === 0) for (let c = 0; c < 3; c++) data[3 * i + c] = Math.round(means[3 * i + c]);
  }
}

/** Means where a pixel is seen; elsewhere those of half the size, down to one pixel. */
function filled(sums: Sums): Float32Array {
  const { height, width, colours, counts } = sums;
  const out = Float32Array.from(colours, (sum, i) => sum / Math.max(counts[Math.floor(i / 3)], 1));
  if (counts.length === 1 || !counts.includes(0)) return out;
  const half = halved(sums);
  const coarse = filled(half);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = y * width + x;
      if (counts[at] > 0) continue;
      const from = 3 * ((y >> 1) * half.width + (x >> 1));
      out.set(coarse.subarray(from, from + 3), 3 * at);
    }
  }
  return out;
}

function halved({ height, width, colours, counts }: Sums): Sums {
  const size = { height: Math.ceil(height / 2), width: Math.ceil(width / 2) };
  const out = {
    ...size, colours: new Float32Array(3 * size.height * size.width), counts: new Float32Array(size.height * size.width),
  };
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [from, to] = [y * width + x, (y >> 1) * size.width + (x >> 1)];
      out.counts[to] += counts[from];
      for (let c = 0; c < 3; c++) out.colours[3 * to + c] += colours[3 * from + c];
    }
  }
  return out;
}
