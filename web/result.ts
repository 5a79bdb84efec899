/** From the last level of the loop to the integers of a photo: half to even, in float32. */

import { clip, largestValue, type Photo, type Planes, type Region } from "./arrays.js";

/** Takes the parts of a level in any order. */
export interface Sink {
  /** Takes a part of `from`, which belongs at (`top`, `left`) of the level. */
  put(from: Planes, top: number, left: number, part: Region): void;
}

/** The part of a level that shows the photo, in the photo's own bits. */
export function resultOf(blurred: Planes, photo: Photo): Photo {
  const made = new PhotoSink(photo);
  made.put(blurred, 0, 0, { top: 0, left: 0, height: blurred.height, width: blurred.width });
  return made.photo;
}

/** Makes a photo like another of the parts of the last level, so that the level itself is never held. */
export class PhotoSink implements Sink {
  readonly photo: Photo;
  /** What `photo` holds, as an array of bytes that clips and rounds half to even by itself; null: it has 16 bits. */
  private readonly bytes: Uint8ClampedArray | null;

  constructor(like: Photo) {
    const { height, width } = like;
    const size = 3 * height * width;
    const data = largestValue(like) === 255 ? new Uint8Array(size) : new Uint16Array(size);
    this.photo = { height, width, data };
    this.bytes = data instanceof Uint8Array ? new Uint8ClampedArray(data.buffer) : null;
  }

  put(from: Planes, top: number, left: number, part: Region): void {
    const { height, width } = this.photo;
    const columns = Math.min(part.width, width - left);
    for (let y = 0; y < part.height && top + y < height; y++) {
      const first = (part.top + y) * from.width + part.left;
      const to = 3 * ((top + y) * width + left);
      if (this.bytes) putBytes(this.bytes, to, from, first, columns);
      else putWords(this.photo.data as Uint16Array, to, from, first, columns);
    }
  }
}

// Two loops, each over one kind of array: one loop over both kinds is slower.

function putBytes(out: Uint8ClampedArray, to: number, from: Planes, first: number, columns: number): void {
  const { data } = from;
  const count = from.height * from.width;
  for (let i = first; i < first + columns; i++, to += 3) {
    out[to] = Math.fround(data[i] * 255);
    out[to + 1] = Math.fround(data[i + count] * 255);
    out[to + 2] = Math.fround(data[i + 2 * count] * 255);
  }
}

function putWords(out: Uint16Array, to: number, from: Planes, first: number, columns: number): void {
  const count = from.height * from.width;
  for (let i = first; i < first + columns; i++) {
    for (let at = i; at < 3 * count; at += count) out[to++] = word(from.data[at]);
  }
}

function word(value: number): number {
  const exact = clip(Math.fround(value * 65535), 0, 65535);
  const up = Math.floor(exact + 0.5);
  return up - exact === 0.5 && up % 2 === 1 ? up - 1 : up;
}
