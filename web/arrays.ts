/**
 * Arrays of one picture or map, and the arithmetic of docs/harness.md that needs no constants: padding, halving, resizing.
 *
 * Numbers are kept as float32.
 * JavaScript computes in double, so each result is rounded once, where it is stored.
 */

/** Float32 values in the order channels × height × width, rows from the top. */
export interface Planes {
  readonly channels: number;
  readonly height: number;
  readonly width: number;
  readonly data: Float32Array;
}

/** Bytes or 16-bit integers in the order height × width × 3: R, G, B of each pixel. */
export interface Photo {
  readonly height: number;
  readonly width: number;
  readonly data: Uint8Array | Uint8ClampedArray | Uint16Array;
}

/** Height and width. */
export type Size = readonly [height: number, width: number];

export function zeros(channels: number, [height, width]: Size): Planes {
  return { channels, height, width, data: new Float32Array(channels * height * width) };
}

export function clip(x: number, low: number, high: number): number {
  return Math.min(Math.max(x, low), high);
}

/** The same planes with `change` applied to each value. */
export function mapped(planes: Planes, change: (value: number, index: number) => number): Planes {
  const { channels, height, width, data } = planes;
  const out = new Float32Array(data.length);
  for (let i = 0; i < data.length; i++) out[i] = change(data[i], i);
  return { channels, height, width, data: out };
}

/** Which pixel of a line of `length` pixels stands at position `i` of the line continued by reflection. */
export function reflected(i: number, length: number): number {
  if (length === 1) return 0;
  const period = 2 * (length - 1);
  const j = ((i % period) + period) % period;
  return Math.min(j, period - j);
}

/** Planes continued by reflection at the bottom and at the right, up to `size`. */
export function padded(planes: Planes, size: Size): Planes {
  const { channels, height, width, data } = planes;
  if (height === size[0] && width === size[1]) return planes;
  const out = zeros(channels, size);
  const columns = Array.from({ length: size[1] }, (_, x) => reflected(x, width));
  let at = 0;
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < size[0]; y++) {
      const row = (c * height + reflected(y, height)) * width;
      for (let x = 0; x < size[1]; x++) out.data[at++] = data[row + columns[x]];
    }
  }
  return out;
}

/** The part of `planes` that begins at (`top`, `left`) and has `size`. */
export function cropped(planes: Planes, top: number, left: number, size: Size): Planes {
  const { channels, height, width, data } = planes;
  if (top === 0 && left === 0 && height === size[0] && width === size[1]) return planes;
  const out = zeros(channels, size);
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < size[0]; y++) {
      const from = (c * height + top + y) * width + left;
      out.data.set(data.subarray(from, from + size[1]), (c * size[0] + y) * size[1]);
    }
  }
  return out;
}

/** A part of planes: its top left corner and its size. */
export interface Region {
  readonly top: number;
  readonly left: number;
  readonly height: number;
  readonly width: number;
}

/** Lay a part of `from` into `into`, at (`top`, `left`); `clipped`: to [0, 1]. */
export function place(
  from: Planes, into: Planes, top: number, left: number, part: Region, clipped = false,
): void {
  for (let c = 0; c < from.channels; c++) {
    for (let y = 0; y < part.height; y++) {
      const at = (c * from.height + part.top + y) * from.width + part.left;
      const to = (c * into.height + top + y) * into.width + left;
      if (!clipped) {
        into.data.set(from.data.subarray(at, at + part.width), to);
        continue;
      }
      for (let x = 0; x < part.width; x++) {
        const value = from.data[at + x];
        into.data[to + x] = value < 0 ? 0 : value > 1 ? 1 : value;
      }
    }
  }
}

export function largestValue(photo: Photo): 255 | 65535 {
  return photo.data instanceof Uint16Array ? 65535 : 255;
}

/** The integers of `photo` as float32 planes (exact, since they have at most 16 bits). */
function integers(photo: Photo): Planes {
  const out = zeros(3, [photo.height, photo.width]);
  const count = photo.height * photo.width;
  for (let c = 0; c < 3; c++) {
    const plane = out.data.subarray(c * count, (c + 1) * count);
    for (let i = 0, from = c; i < count; i++, from += 3) plane[i] = photo.data[from];
  }
  return out;
}

/** Each 2×2 block of `planes` replaced by one value. */
function halved(planes: Planes, one: (a: number, b: number, c: number, d: number) => number): Planes {
  const { channels, height, width, data } = planes;
  const out = zeros(channels, [height / 2, width / 2]);
  let at = 0;
  for (let row = 0; row < channels * height; row += 2) {
    for (let x = 0; x < width; x += 2) {
      const i = row * width + x;
      out.data[at++] = one(data[i], data[i + 1], data[i + width], data[i + width + 1]);
    }
  }
  return out;
}

/** The pictures of levels 0 to n, of which the last has `size`: halved in squares, see "Pictures of the levels". */
export function pyramid(photo: Photo, n: number, size: Size): Planes[] {
  const largest = largestValue(photo);
  const whole = padded(integers(photo), size);
  const pictures = [mapped(whole, (value) => value / largest)];
  for (let k = n - 1; k >= 0; k--) {
    const divisor = 4 * largest * largest;
    const first = (): Planes => halved(whole, (a, b, c, d) => Math.sqrt((a * a + b * b + c * c + d * d) / divisor));
    pictures.unshift(k === n - 1 ? first() : halvedPicture(pictures[0]));
  }
  return pictures;
}

/** A picture halved as the pictures of the levels are: the mean of squares. */
export function halvedPicture(planes: Planes): Planes {
  return halved(planes, (a, b, c, d) => Math.sqrt((a * a + b * b + c * c + d * d) / 4));
}

/** The plain 2×2 mean, for signed depth. Spelt out, not by `halved`: each answer to a drag waits for it. */
export function mean2x2({ channels, height, width, data }: Planes): Planes {
  const out = zeros(channels, [height / 2, width / 2]);
  for (let row = 0, at = 0; row < channels * height; row += 2) {
    for (let i = row * width, end = i + width; i < end; i += 2) {
      const left = Math.fround(data[i] + data[i + width]);
      out.data[at++] = Math.fround(left + Math.fround(data[i + 1] + data[i + width + 1])) * 0.25;
    }
  }
  return out;
}

/** First source index and normalised weights of each value of one resized axis. */
function triangle(
  length: number, edge: number, size: number, grain: number,
): { first: number; weights: number[] }[] {
  const scale = edge / size;
  const support = Math.max(scale, 1);
  return Array.from({ length: size }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.floor(centre - support + 0.5));
    const last = Math.min(length, Math.floor(centre + support + 0.5));
    const weights: number[] = [];
    for (let j = first; j < last; j++) weights.push(Math.max(0, 1 - Math.abs((j - centre + 0.5) * (1 / support))));
    const sum = weights.reduce((a, b) => a + b, 0);
    const rounded = (weight: number): number => (grain ? Math.floor(weight / grain + 0.5) * grain : weight);
    return { first, weights: weights.map((weight) => rounded(weight / sum)) };
  });
}

/**
 * `planes` resized by the widened triangle filter: columns first, then rows.
 *
 * `edges` are the height and width of the part that becomes `size`; `store` rounds after each axis. Weights are rounded
 * to multiples of `grain`, if it is not 0.
 */
export function resized(
  planes: Planes, size: Size, edges: Size, store: (x: number) => number = Math.fround, grain = 0,
): Planes {
  let out = planes;
  if (!(edges[1] === out.width && size[1] === out.width)) {
    const taps = triangle(out.width, edges[1], size[1], grain);
    const wide = zeros(out.channels, [out.height, size[1]]);
    for (let row = 0; row < out.channels * out.height; row++) {
      for (let x = 0; x < size[1]; x++) {
        const { first, weights } = taps[x];
        let sum = 0;
        for (let j = 0; j < weights.length; j++) sum += weights[j] * out.data[row * out.width + first + j];
        wide.data[row * size[1] + x] = store(sum);
      }
    }
    out = wide;
  }
  if (!(edges[0] === out.height && size[0] === out.height)) {
    const taps = triangle(out.height, edges[0], size[0], grain);
    const high = zeros(out.channels, [size[0], out.width]);
    for (let c = 0; c < out.channels; c++) {
      for (let y = 0; y < size[0]; y++) {
        const { first, weights } = taps[y];
        for (let x = 0; x < out.width; x++) {
          let sum = 0;
          for (let j = 0; j < weights.length; j++) {
            sum += weights[j] * out.data[(c * out.height + first + j) * out.width + x];
          }
          high.data[(c * size[0] + y) * out.width + x] = store(sum);
        }
      }
    }
    out = high;
  }
  return out;
}

/** A photo resized to `size` as bytes, kept as numbers from 0 to 255. */
export function resizedBytes(photo: Photo, size: Size): Planes {
  const whole = integers(photo);
  const bytes = largestValue(photo) === 255 ? whole : mapped(whole, (value) => Math.floor((value + 128) / 257));
  return resized(bytes, size, [photo.height, photo.width], (sum) => clip(Math.floor(sum + 0.5), 0, 255), 2 ** -22);
}

/** `planes` with the last row and the last column repeated, up to `size`. */
export function repeated(planes: Planes, size: Size): Planes {
  const { channels, height, width, data } = planes;
  const grown: Size = [Math.max(height, size[0]), Math.max(width, size[1])];
  if (grown[0] === height && grown[1] === width) return planes;
  const out = zeros(channels, grown);
  let at = 0;
  for (let c = 0; c < channels; c++) {
    for (let y = 0; y < grown[0]; y++) {
      const row = (c * height + Math.min(y, height - 1)) * width;
      for (let x = 0; x < grown[1]; x++) out.data[at++] = data[row + Math.min(x, width - 1)];
    }
  }
  return out;
}

/** `planes` enlarged bilinearly by a whole factor; centres are at half pixels, and the border is repeated. */
export function enlarged(planes: Planes, factor: number): Planes {
  if (factor === 1) return planes;
  if (factor === 2) return doubled(planes);
  const { channels, height, width, data } = planes;
  const taps = (length: number): { low: Int32Array; share: Float64Array } => {
    const at = Float64Array.from({ length: length * factor }, (_, i) => clip((i + 0.5) / factor - 0.5, 0, length - 1));
    const low = Int32Array.from(at, Math.floor);
    return { low, share: at.map((each, i) => each - low[i]) };
  };
  const rows = taps(height);
  const columns = taps(width);
  const out = zeros(channels, [height * factor, width * factor]);
  const line = new Float64Array(width + 1); // one row between two; its last pixel is repeated
  for (let c = 0, to = 0; c < channels; c++) {
    for (let y = 0; y < out.height; y++) {
      const down = rows.share[y];
      const upper = (c * height + rows.low[y]) * width;
      const lower = (c * height + Math.min(rows.low[y] + 1, height - 1)) * width;
      for (let x = 0; x < width; x++) line[x] = data[upper + x] * (1 - down) + data[lower + x] * down;
      line[width] = line[width - 1];
      for (let x = 0; x < out.width; x++, to++) {
        const share = columns.share[x];
        const low = columns.low[x];
        out.data[to] = line[low] * (1 - share) + line[low + 1] * share;
      }
    }
  }
  return out;
}

/** Enlarged to twice the size with fixed weights: most of a picture may be made so. */
function doubled({ channels, height, width, data }: Planes): Planes {
  const out = zeros(channels, [2 * height, 2 * width]);
  const line = new Float64Array(width + 2); // one row between two; its first and its last pixel are repeated
  for (let c = 0, to = 0; c < channels; c++) {
    for (let y = 0; y < 2 * height; y++) {
      const near = (c * height + (y >> 1)) * width;
      const far = (c * height + clip((y >> 1) + (y % 2 ? 1 : -1), 0, height - 1)) * width;
      for (let x = 0; x < width; x++) line[x + 1] = data[near + x] * 0.75 + data[far + x] * 0.25;
      line[0] = line[1];
      line[width + 1] = line[width];
      for (let x = 1; x <= width; x++, to += 2) {
        out.data[to] = line[x] * 0.75 + line[x - 1] * 0.25;
        out.data[to + 1] = line[x] * 0.75 + line[x + 1] * 0.25;
      }
    }
  }
  return out;
}
