/**
 * The way from photo to photo, written from docs/harness.md and harness.json: sections 2 to 9 of that document.
 *
 * Networks are passed in as functions (onnx.ts makes them), so this file needs neither a browser nor Node.
 */

import {
  clip, cropped, enlarged, halvedPicture, mapped, mean2x2, padded, pyramid, repeated, resized, zeros,
  type Photo, type Planes, type Size,
} from "./arrays.js";
import type { Constants, Variant } from "./constants.js";
import { checkNormalised, type Focus } from "./focus.js";
import type { Run } from "./network.js";
import { PhotoSink, resultOf } from "./result.js";
import { runLevel, runLevelInto, type LevelInputs, type TileOptions } from "./tiles.js";

/** Sizes of the levels: level 0 is the base, level n the photo. */
export interface Levels {
  readonly n: number;
  readonly padded: readonly Size[];
  readonly covered: readonly Size[];
  readonly blurScale: number;
}

/** What a photo and its disparity map give before focus and aperture are chosen. */
export interface Prepared {
  readonly photo: Photo;
  readonly map: Planes;
  readonly levels: Levels;
  readonly pictures: readonly Planes[];
  readonly registered: Planes;
}

export interface Networks {
  readonly lens_blur: Run;
  readonly upsample: Run;
}

export interface Options extends TileOptions {
  /** Begin at the base, whatever `finer_base_range` says: what graphs of single networks are compared by. */
  readonly fromBase?: boolean;
  /** Called with what a network gave for a level, not clipped. */
  readonly onOutput?: (level: number, network: keyof Networks, planes: Planes) => void;
  /** Called with each intermediate result under its name in the vectors: `signed_depth_k`, `blurred_k`. */
  readonly onStage?: (name: string, planes: Planes) => void;
}

/** Number of levels and their sizes for a photo of `height`×`width` pixels. */
export function levelsOf(height: number, width: number, constants: Constants): Levels {
  const { alignment, min_size, base_long_side } = constants;
  const long = Math.max(height, width);
  const short = Math.min(height, width);
  let n = 0;
  while (Math.ceil(long / 2 ** n) > base_long_side && alignment * 2 ** n < short) n++;
  const base = (length: number): number =>
    Math.max(min_size, alignment * Math.ceil(length / (alignment * 2 ** n)));
  const sizes = Array.from({ length: n + 1 }, (_, k) => k);
  return {
    n,
    padded: sizes.map((k) => [base(height) * 2 ** k, base(width) * 2 ** k] as const),
    covered: sizes.map((k) => [Math.ceil(height / 2 ** (n - k)), Math.ceil(width / 2 ** (n - k))] as const),
    blurScale: Math.min(1, long / 2 ** n / base_long_side),
  };
}

/** The level at which disparity is registered. */
function registeredLevel(n: number): number {
  return Math.max(n - 1, Math.min(n, 1));
}

/** The map resized so that its pixels are those of level `k`. */
function registeredAt(map: Planes, k: number, photo: Photo, levels: Levels): Planes {
  const [rows, columns] = levels.covered[k];
  const pixel = 2 ** (levels.n - k);
  const bottom = map.height * ((pixel * rows) / photo.height);
  const right = map.width * ((pixel * columns) / photo.width);
  const grown = repeated(map, [Math.ceil(bottom), Math.ceil(right)]);
  return resized(grown, [rows, columns], [Math.fround(bottom), Math.fround(right)]);
}

/** Whether the map has the photo's aspect ratio, or the size that the depth network gives. */
export function showsWhole(map: Planes, photo: Photo, constants: Constants): boolean {
  const { height: h, width: w } = map;
  const { height: H, width: W } = photo;
  const ratio = (w * H) / (h * W);
  const rounded = Math.abs(h - (w * H) / W) < 1 || Math.abs(w - (h * W) / H) < 1;
  const square = h === constants.depth_size && w === constants.depth_size;
  return square || rounded || Math.max(ratio, 1 / ratio) <= 1 + constants.aspect_tolerance;
}

function checkMap(map: Planes, photo: Photo, constants: Constants): void {
  checkNormalised(map);
  if (showsWhole(map, photo, constants)) return;
  throw new Error(
    `the disparity map of ${map.width}×${map.height} does not have the aspect ratio of the photo of ` +
      `${photo.width}×${photo.height}`,
  );
}

/**
 * The pictures of all levels and the registered disparity.
 *
 * `map` is 1 × h × w, in [0, 1], near = large, and shows the whole photo.
 * Throws an `Error` if it holds other values, or if its aspect ratio is not the photo's.
 */
export function prepare(photo: Photo, map: Planes, constants: Constants): Prepared {
  checkMap(map, photo, constants);
  const levels = levelsOf(photo.height, photo.width, constants);
  return {
    photo,
    map,
    levels,
    pictures: pyramid(photo, levels.n, levels.padded[levels.n]),
    registered: registeredAt(map, registeredLevel(levels.n), photo, levels),
  };
}

/** The same photo with another map of its disparity, as `prepare` takes it. */
export function withMap(prepared: Prepared, map: Planes, constants: Constants): Prepared {
  const { photo, levels } = prepared;
  checkMap(map, photo, constants);
  return { ...prepared, map, registered: registeredAt(map, registeredLevel(levels.n), photo, levels) };
}

/** The aperture α of an f-number; throws an `Error` if it is below the smallest one. */
export function apertureOf(fNumber: number, constants: Constants): number {
  if (!(fNumber >= constants.n_min)) throw new Error(`f/${fNumber}: the smallest f-number is ${constants.n_min}`);
  return constants.n_min / fNumber;
}

/** Signed depth of disparity values, in [−1, 1]: s of section 7. */
function signed(map: Planes, focus: Focus, strength: number): Planes {
  const focal = Math.fround(focus.disparity);
  const half = Math.fround(focus.range / 2);
  const factor = Math.fround(strength);
  const out = zeros(map.channels, [map.height, map.width]);
  const { data } = out;
  for (let i = 0; i < data.length; i++) {
    let s = Math.fround(map.data[i] - focal);
    if (half > 0) s = Math.fround(s - clip(s, -half, half));
    s = Math.fround(s * factor);
    data[i] = s < -1 ? -1 : s > 1 ? 1 : s;
  }
  return out;
}

/** Signed depth times a factor, in [−1, 1]. */
function scaled({ data, ...size }: Planes, factor: number): Planes {
  const out = new Float32Array(data.length);
  for (let i = 0; i < data.length; i++) {
    const value = data[i] * factor;
    out[i] = value < -1 ? -1 : value > 1 ? 1 : value;
  }
  return { ...size, data: out };
}

/** Signed depth of levels 0 to f, before the factor of the level. */
function baseDepths(prepared: Prepared, focus: Focus, strength: number): Planes[] {
  const f = registeredLevel(prepared.levels.n);
  const depths = [padded(signed(prepared.registered, focus, strength), prepared.levels.padded[f])];
  for (let k = f - 1; k >= 0; k--) depths.unshift(mean2x2(depths[0]));
  return depths;
}

/** One level of the loop: below level n padded planes, level n the photo. */
export type Level = { readonly level: number } & ({ readonly blurred: Planes } | { readonly photo: Photo });

/** The photo with the lens blur of `fNumber`, focused on `focus`; the size and bit depth are the photo's. */
export async function refocus(
  prepared: Prepared, focus: Focus, fNumber: number, networks: Networks,
  constants: Constants, variant: Variant, options: Options = {},
): Promise<Photo> {
  for await (const level of refocusedLevels(prepared, focus, fNumber, networks, constants, variant, options)) {
    if ("photo" in level) return level.photo;
  }
  throw new Error("the loop ended before its last level");
}

/** The levels of `refocus` one by one, from the one that the loop begins at. */
export async function* refocusedLevels(
  prepared: Prepared, focus: Focus, fNumber: number, networks: Networks,
  constants: Constants, variant: Variant, options: Options = {},
): AsyncGenerator<Level> {
  const { levels: { n }, pictures } = prepared;
  const strength = strengthOf(prepared, fNumber, constants);
  const depths = baseDepths(prepared, focus, strength);
  const stage = (name: string, planes: Planes): Planes => {
    options.onStage?.(name, planes);
    return planes;
  };
  const signedDepth = (k: number): Planes =>
    stage(`signed_depth_${k}`, variant.depth_by_level && k > 0 ? scaled(depths[k], 2 ** k) : depths[k]);
  const run = async (network: keyof Networks, level: number, inputs: LevelInputs): Promise<Planes> => {
    // The lens blur of level 1 sees twice as much at once: its halo is large beside a tile.
    const wide = options.tile && network === "lens_blur" && level > 0 ? { tile: 2 * options.tile } : {};
    const { onOutput } = options;
    const made = await runLevel(
      networks[network], inputs, constants, variant,
      { ...options, ...wide, raw: onOutput !== undefined },
    );
    if (!onOutput) return made;
    onOutput(level, network, made);
    return mapped(made, (value) => clip(value, 0, 1));
  };
  const lens = (k: number): Promise<Planes> =>
    run("lens_blur", k, { picture: pictures[k], signed_depth: signedDepth(k) });
  const stepInputs = (k: number, blurred: Planes): LevelInputs =>
    ({ picture_high: pictures[k], picture: pictures[k - 1], blurred, signed_depth: signedDepth(k - 1) });
  const step = (k: number, blurred: Planes): Promise<Planes> => run("upsample", k, stepInputs(k, blurred));

  const finer = n >= 1 && variant.finer_base && !options.fromBase ? finerShare(depths[0], constants) : 0;
  let shares: ReturnType<typeof sharpShares> | null = null; // made when a level needs it: the base does not
  const shareOf = (k: number): Planes | null => {
    shares ??= sharpShares(prepared, focus, strength, depths, constants, variant);
    return shares(k);
  };
  // Whether what the step gives of a level is the level, and nobody looks at it on the way.
  const isStraight = (k: number): boolean => !options.onStage && !options.onOutput && shareOf(k) === null;
  const sharpened = (k: number, x: Planes): Planes => {
    const share = shareOf(k);
    if (share === null) return x;
    const count = x.height * x.width;
    return mapped(x, (value, i) => value + share.data[i % count] * (pictures[k].data[i] - value));
  };

  const level = (k: number, blurred: Planes): Level =>
    k === n ? { level: n, photo: resultOf(blurred, prepared.photo) } : { level: k, blurred };

  let blurred: Planes | null = null;
  if (finer < 1) {
    blurred = stage("blurred_0", await lens(0));
    yield level(0, blurred);
  }
  for (let k = 1; k <= n; k++) {
    if (k === n && blurred && (k > 1 || finer === 0) && isStraight(k)) {
      const made = new PhotoSink(prepared.photo);
      await runLevelInto(made, networks.upsample, stepInputs(k, blurred), constants, variant, options);
      yield { level: n, photo: made.photo };
      return;
    }
    const stepped: Planes | null = blurred ? await step(k, blurred) : null;
    const begun = k === 1 && finer > 0 ? await lens(1) : null;
    blurred = stage(`blurred_${k}`, sharpened(k, mixed(stepped, begun, finer)));
    yield level(k, blurred);
  }
}

/**
 * A first answer at half the size of the base, for a finger that drags: a quarter of the base's work.
 *
 * The lens blur sees the base once more halved, with radii in pixels of that picture; not part of the contract.
 */
export async function quickAnswer(
  prepared: Prepared, focus: Focus, fNumber: number, lensBlur: Run, constants: Constants,
): Promise<Planes> {
  const { alignment, min_size } = constants;
  const half = halvedPicture(prepared.pictures[0]);
  const size = [half.height, half.width].map((side) => Math.max(min_size, alignment * Math.ceil(side / alignment)));
  const whole: Size = [size[0], size[1]];
  const depths = baseDepths(prepared, focus, strengthOf(prepared, fNumber, constants));
  const depth = mapped(mean2x2(depths[0]), (value) => value / 2);
  const result = await lensBlur({ picture: padded(half, whole), signed_depth: padded(depth, whole) });
  return mapped(cropped(result, 0, 0, [half.height, half.width]), (value) => clip(value, 0, 1));
}

/** Whether the loop gives a level 0 with these settings. */
export function beginsAtBase(
  prepared: Prepared, focus: Focus, fNumber: number, constants: Constants, variant: Variant,
): boolean {
  if (prepared.levels.n === 0 || !variant.finer_base) return true;
  return finerShare(baseDepths(prepared, focus, strengthOf(prepared, fNumber, constants))[0], constants) < 1;
}

function strengthOf(prepared: Prepared, fNumber: number, constants: Constants): number {
  return apertureOf(fNumber, constants) * prepared.levels.blurScale;
}

/** How much of level 1 comes from a lens blur there: from 0 (the base alone) to 1 (level 1 alone). */
function finerShare(base: Planes, constants: Constants): number {
  const [low, high] = constants.finer_base_range;
  const most = base.data.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
  return clip((high - most) / (high - low), 0, 1);
}

/** The two beginnings of the loop mixed; of one that is null nothing is taken. */
function mixed(stepped: Planes | null, begun: Planes | null, finer: number): Planes {
  if (stepped && begun) return mapped(stepped, (value, i) => (1 - finer) * value + finer * begun.data[i]);
  return (stepped ?? begun) as Planes;
}

/** A function that gives for each level how much of a pixel is the photo's, or null where the map is coarser. */
function sharpShares(
  prepared: Prepared, focus: Focus, strength: number, depths: readonly Planes[],
  constants: Constants, variant: Variant,
): (k: number) => Planes | null {
  const { photo, map, levels } = prepared;
  const { n, covered } = levels;
  const asFine = (k: number): boolean => map.height >= covered[k][0] && map.width >= covered[k][1];
  if (variant.sharp_bound === null || n === 0 || !asFine(1)) return () => null;

  const f = registeredLevel(n);
  const g = asFine(n) ? Math.max(n, f) : f;
  let finest = prepared.registered;
  if (g > f) {
    const same = map.height === covered[n][0] && map.width === covered[n][1];
    finest = same ? map : registeredAt(map, n, photo, levels);
  }
  const reached = reachOf(padded(finest, levels.padded[g]), 2 ** g, focus, strength, constants);
  return (k) => {
    if (!asFine(k)) return null;
    const depth = k <= f ? depths[k] : padded(signed(finest, focus, strength), levels.padded[k]);
    const { blurred_radius: none, sharp_radius: whole, r_max } = constants;
    return mapped(enlarged(reached, 2 ** k), (reach, i) => {
      const radius = r_max * Math.abs(depth.data[i]) * 2 ** k;
      return clip((none - radius) / (none - whole), 0, 1) * clip(1 - 2 ** k * reach, 0, 1);
    });
  };
}

/** How far, in base pixels, the blur of what is before the focal plane reaches past each base pixel. */
function reachOf(finest: Planes, block: number, focus: Focus, strength: number, constants: Constants): Planes {
  const height = finest.height / block;
  const width = finest.width / block;
  const nearest = zeros(1, [height, width]);
  for (let y = 0; y < finest.height; y++) {
    for (let x = 0; x < finest.width; x++) {
      const i = Math.floor(y / block) * width + Math.floor(x / block);
      nearest.data[i] = Math.max(nearest.data[i], finest.data[y * finest.width + x]);
    }
  }
  let reached = mapped(signed(nearest, focus, strength), (s) => Math.max(s, 0) * constants.r_max);
  const passes = Math.ceil(reached.data.reduce((a, b) => Math.max(a, b), 0));
  for (let pass = 0; pass < passes; pass++) {
    const before = reached.data;
    const at = (y: number, x: number): number => before[clip(y, 0, height - 1) * width + clip(x, 0, width - 1)];
    reached = mapped(reached, (value, i) => {
      const y = Math.floor(i / width);
      const x = i % width;
      const side = Math.max(at(y - 1, x), at(y + 1, x), at(y, x - 1), at(y, x + 1));
      const corner = Math.max(at(y - 1, x - 1), at(y - 1, x + 1), at(y + 1, x - 1), at(y + 1, x + 1));
      return Math.max(value, side - 1, corner - Math.SQRT2);
    });
  }
  return reached;
}
