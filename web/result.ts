/** From the last level of the loop to the integers of a photo: half to even, in float32. */

import { clip, largestValue, type Photo, type Planes } from "./arrays.js";

/** The part of a level that shows the photo, in the photo's own bits. */
export function resultOf(blurred: Planes, photo: Photo): Photo {
  const { height, width } = photo;
  const size = 3 * height * width;
  if (largestValue(photo) === 255) {
    const data = new Uint8ClampedArray(size);
    fillBytes(data, blurred, height, width);
    return { height, width, data: new Uint8Array(data.buffer) };
  }
  const data = new Uint16Array(size);
  fillWords(data, blurred, height, width);
  return { height, width, data };
}

// Two loops, each over one kind of array: one loop over both kinds is slower.

function fillBytes(out: Uint8ClampedArray, { data, height: rows, width: columns }: Planes, height: number, width: number): void {
  const count = rows * columns;
  for (let y = 0, to = 0; y < height; y++) {
    const row = y * columns;
    // An array of clamped bytes clips and rounds half to even by itself.
    for (let i = row; i < row + width; i++, to += 3) {
      out[to] = Math.fround(data[i] * 255);
      out[to + 1] = Math.fround(data[i + count] * 255);
      out[to + 2] = Math.fround(data[i + 2 * count] * 255);
    }
  }
}

function fillWords(out: Uint16Array, { data, height: rows, width: columns }: Planes, height: number, width: number): void {
  const count = rows * columns;
  for (let y = 0, to = 0; y < height; y++) {
    const row = y * columns;
    for (let i = row; i < row + width; i++) {
      for (let from = i; from < 3 * count; from += count) out[to++] = word(data[from]);
    }
  }
}

function word(value: number): number {
  const exact = clip(Math.fround(value * 65535), 0, 65535);
  const up = Math.floor(exact + 0.5);
  return up - exact === 0.5 && up % 2 === 1 ? up - 1 : up;
}
