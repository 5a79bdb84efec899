/**
 * Colour spaces by the codes of ITU-T H.273, which nclx boxes (HEIC, AVIF) and cICP chunks (PNG) use, and the way from
 * each to sRGB. It is the conversion of `deeplens refocus`: browsers show HDR darker, and video's curve in their own ways.
 */

/** x, y of red, green, blue and white. */
type Chromaticities = readonly (readonly [x: number, y: number])[];
/** Stored value in [0, 1] → linear light, 1 = white; what is brighter is above 1. */
type Transfer = (value: number) => number;

export interface Space {
  readonly primaries: Chromaticities;
  readonly decode: Transfer;
  /** PQ or HLG, for messages; null: no HDR. */
  readonly hdr: "PQ" | "HLG" | null;
}

const D65 = [0.3127, 0.329] as const;
const C = [0.31, 0.316] as const;
const DCI = [0.314, 0.351] as const;
const BT_709: Chromaticities = [[0.64, 0.33], [0.3, 0.6], [0.15, 0.06], D65];
const SMPTE_170M: Chromaticities = [[0.63, 0.34], [0.31, 0.595], [0.155, 0.07], D65];

const PRIMARIES: Readonly<Record<number, Chromaticities>> = {
  1: BT_709,
  4: [[0.67, 0.33], [0.21, 0.71], [0.14, 0.08], C],
  5: [[0.64, 0.33], [0.29, 0.6], [0.15, 0.06], D65],
  6: SMPTE_170M,
  7: SMPTE_170M,
  8: [[0.681, 0.319], [0.243, 0.692], [0.145, 0.049], C],
  9: [[0.708, 0.292], [0.17, 0.797], [0.131, 0.046], D65],
  11: [[0.68, 0.32], [0.265, 0.69], [0.15, 0.06], DCI],
  12: [[0.68, 0.32], [0.265, 0.69], [0.15, 0.06], D65],
  22: [[0.63, 0.34], [0.295, 0.605], [0.155, 0.077], D65],
};

/** cd/m² of a white sheet in PQ and HLG (ITU-R BT.2408): it becomes the white of sRGB. */
const REFERENCE_WHITE = 203;

/** IEC 61966-2-1. */
const srgb: Transfer = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
const encoded = (light: number): number => (light <= 0.0031308 ? 12.92 * light : 1.055 * light ** (1 / 2.4) - 0.055);
const power = (gamma: number): Transfer => (value) => value ** gamma;

/** SMPTE ST 2084. */
const pq: Transfer = (value) => {
  const root = value ** (32 / 2523);
  const [c1, c2, c3] = [3424 / 4096, 2413 / 128, 2392 / 128];
  return (Math.max(root - c1, 0) / (c2 - c3 * root)) ** (16384 / 2610) * (10_000 / REFERENCE_WHITE);
};

/** ARIB STD-B67: the light of the scene, 1 = the brightest; `toSrgb` makes that of a display of it. */
const hlg: Transfer = (value) =>
  value <= 0.5 ? value ** 2 / 3 : (Math.exp((value - 0.55991073) / 0.17883277) + 0.28466892) / 12;

/** Video's own curves (1, 6, 11, 12, 14, 15) are shown as sRGB by viewers. */
const TRANSFERS: Readonly<Record<number, Transfer>> = {
  ...Object.fromEntries([1, 6, 7, 11, 12, 13, 14, 15].map((code) => [code, srgb])),
  4: power(2.2), 5: power(2.8), 8: power(1), 16: pq, 17: (value) => value ** 2.6 * (52.37 / 48), 18: hlg,
};

/** The space of EXIF's Uncalibrated with the interoperability index R03 (DCF 2.0). */
export const ADOBE_RGB: Space = {
  primaries: [[0.64, 0.33], [0.21, 0.71], [0.15, 0.06], D65], decode: power(563 / 256), hdr: null,
};

/** The space of two codes; 2, "unspecified", is taken for sRGB's. Null: it is sRGB, or a code that is not known. */
export function codedSpace(primaries: number, transfer: number): Space | null {
  const colours = PRIMARIES[primaries === 2 ? 1 : primaries];
  const decode = TRANSFERS[transfer === 2 ? 1 : transfer];
  if (!colours || !decode || (colours === BT_709 && decode === srgb)) return null;
  return { primaries: colours, decode, hdr: transfer === 16 ? "PQ" : transfer === 18 ? "HLG" : null };
}

type Matrix = readonly (readonly number[])[];

const times = (a: Matrix, b: Matrix): Matrix => a.map((row) => b[0].map((_, k) => row.reduce((s, v, i) => s + v * b[i][k], 0)));

function inverse([[a, b, c], [d, e, f], [g, h, i]]: Matrix): Matrix {
  const by = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
  return [
    [e * i - f * h, c * h - b * i, b * f - c * e],
    [f * g - d * i, a * i - c * g, c * d - a * f],
    [d * h - e * g, b * g - a * h, a * e - b * d],
  ].map((row) => row.map((value) => value / by));
}

const diagonal = (values: readonly number[]): Matrix => values.map((value, i) => values.map((_, k) => (i === k ? value : 0)));

/** The matrix from linear RGB to XYZ, white at Y = 1. */
function toXyz(primaries: Chromaticities): Matrix {
  const columns = primaries.map(([x, y]) => [x / y, 1, (1 - x - y) / y]);
  const colours = [0, 1, 2].map((row) => [0, 1, 2].map((k) => columns[k][row]));
  const scale = times(inverse(colours), columns[3].map((value) => [value])).map(([value]) => value);
  return times(colours, diagonal(scale));
}

const BRADFORD: Matrix = [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]];

/** The matrix from linear RGB to linear sRGB; a white point that is another is adapted (Bradford). */
function matrixToSrgb(primaries: Chromaticities): Matrix {
  const [source, target] = [toXyz(primaries), toXyz(BT_709)];
  const white = (matrix: Matrix): number[] => times(BRADFORD, matrix.map((row) => [row[0] + row[1] + row[2]])).map(([v]) => v);
  const [from, to] = [white(source), white(target)];
  const adapted = times(inverse(BRADFORD), times(diagonal(to.map((value, i) => value / from[i])), times(BRADFORD, source)));
  return times(inverse(target), adapted);
}

/** Steps of linear light from black to white for which the stored value is looked up. */
const STEPS = 65536;

/**
 * Pixels of another space in sRGB, as a canvas takes them. What sRGB can't hold is clipped.
 *
 * `values`: `channels` (3 or 4, the last alpha) numbers of at most `bits` bits for each pixel, row by row.
 */
export function toSrgb(
  values: Uint8Array | Uint8ClampedArray | Uint16Array, channels: 3 | 4, bits: number, width: number, height: number,
  space: Space,
): ImageData {
  const top = 2 ** bits - 1;
  const light = Float32Array.from({ length: top + 1 }, (_, value) => space.decode(value / top));
  const stored = Uint8Array.from({ length: STEPS + 1 }, (_, step) => Math.round(255 * encoded(step / STEPS)));
  const [[a, b, c], [d, e, f], [g, h, i]] = matrixToSrgb(space.primaries);
  const [, luminance] = toXyz(space.primaries);
  const out = new ImageData(width, height);
  const pixels = out.data;
  const at = (linear: number): number => stored[Math.round(Math.min(Math.max(linear, 0), 1) * STEPS)];
  for (let from = 0, to = 0; to < pixels.length; from += channels, to += 4) {
    let [red, green, blue] = [light[values[from]], light[values[from + 1]], light[values[from + 2]]];
    if (space.hdr === "HLG") { // BT.2100: a display of 1000 cd/m² has the system gamma 1.2
      const bright = luminance[0] * red + luminance[1] * green + luminance[2] * blue;
      const gain = Math.max(bright, 0) ** 0.2 * (1000 / REFERENCE_WHITE);
      [red, green, blue] = [red * gain, green * gain, blue * gain];
    }
    pixels[to] = at(a * red + b * green + c * blue);
    pixels[to + 1] = at(d * red + e * green + f * blue);
    pixels[to + 2] = at(g * red + h * green + i * blue);
    pixels[to + 3] = channels === 4 ? values[from + 3] : 255;
  }
  return out;
}
