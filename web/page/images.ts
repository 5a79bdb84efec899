/** Pictures as a canvas takes them. */

import type { Photo, Planes } from "../arrays.js";

/** A photo and its opacity. */
export function imageData(photo: Photo, alpha: Uint8Array | null): ImageData {
  const { height, width, data } = photo;
  const out = new ImageData(width, height);
  const pixels = new Uint32Array(out.data.buffer); // red in the lowest byte: browsers run on such machines alone
  for (let i = 0, from = 0; i < pixels.length; i++, from += 3) {
    const opacity = alpha ? alpha[i] : 255;
    pixels[i] = data[from] | (data[from + 1] << 8) | (data[from + 2] << 16) | (opacity << 24);
  }
  return out;
}

/** Three planes of values in [0, 1], clipped. */
export function planesImage({ height, width, data }: Planes): ImageData {
  const count = height * width;
  const out = new ImageData(width, height);
  const pixels = out.data; // rounds and clips by itself
  for (let i = 0, to = 0; i < count; i++, to += 4) {
    pixels[to] = 255 * data[i];
    pixels[to + 1] = 255 * data[count + i];
    pixels[to + 2] = 255 * data[2 * count + i];
    pixels[to + 3] = 255;
  }
  return out;
}
