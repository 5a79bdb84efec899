/** A network run on a level: whole, or in tiles that overlap. */

import { cropped, enlarged, zeros, type Planes, type Size } from "./arrays.js";
import type { Constants, Variant } from "./constants.js";

/** Runs a graph: its inputs by name in, its one output out. */
export type Run = (inputs: Readonly<Record<string, Planes>>) => Promise<Planes>;

/** A network cut where what depends on the photo alone ends; `rest` takes what `photo` gives by the name `feature`. */
export interface Parts {
  readonly feature: string;
  readonly photo: Run;
  readonly rest: Run;
}

/** Runs a network. See onnx.ts. */
export type Network = Run & { readonly parts?: Parts };

/** A network of two parts. */
export function joinedParts(parts: Parts): Network {
  const run: Run = async (inputs) => parts.rest({ ...inputs, [parts.feature]: await parts.photo(inputs) });
  return Object.assign(run, { parts });
}

/** What the networks have made of the photo alone, kept between two refocusings of it. */
export interface Features {
  get(place: string): Planes | undefined;
  set(place: string, planes: Planes): void;
}

export interface TileOptions {
  /** Side of the tiles in low-resolution pixels, a multiple of `alignment`; without it a level is computed whole. */
  readonly tile?: number;
  /** How many tiles are given to the network at the same time; without it one. */
  readonly lanes?: number;
  /** Keeps what depends on the photo alone; belongs to one photo. */
  readonly features?: Features;
  /** Awaited before each tile; what it throws ends the work, for instance because a newer request came. */
  readonly beforeTile?: () => Promise<void>;
  /** Leave out the networks where they hardly change anything; changes the result by at most the variant's bounds. */
  readonly skips?: boolean;
}

interface Window {
  readonly start: number;
  readonly end: number;
  readonly from: number;
  readonly to: number;
}

/** Where the windows of one axis begin and end, and from where to where each is kept. */
export function windows(length: number, window: number, halo: number): Window[] {
  if (length <= window) return [{ start: 0, end: length, from: 0, to: length }];
  const count = Math.ceil((length - 2 * halo) / (window - 2 * halo));
  const start = (i: number): number => Math.min(i * (window - 2 * halo), length - window);
  return Array.from({ length: count }, (_, i) => ({
    start: start(i),
    end: start(i) + window,
    from: i === 0 ? 0 : start(i) + halo,
    to: i === count - 1 ? length : start(i + 1) + halo,
  }));
}

/** How many windows of at most `tile` pixels cover an axis. */
function fewest(length: number, tile: number, halo: number): number {
  return length <= tile ? 1 : Math.ceil((length - 2 * halo) / (tile - 2 * halo));
}

/** The smallest aligned window that covers an axis in `count` windows. */
function fitted(length: number, count: number, halo: number, constants: Constants): number {
  if (count === 1) return length;
  const step = Math.ceil((length - 2 * halo) / count);
  return Math.max(constants.min_size, constants.alignment * Math.ceil(step / constants.alignment) + 2 * halo);
}

/** Windows along each axis: of those that `tile` allows, the ones that give the busiest lane the fewest pixels. */
function windowSize(size: Size, tile: number, halo: number, lanes: number, constants: Constants): Size {
  let best: Size = size;
  let least = [Infinity, Infinity];
  const [most, many] = size.map((length) => {
    const count = fewest(length, tile, halo);
    // No windows that keep less than twice what they only read.
    const upTo = Math.max(count, Math.floor((length - 2 * halo) / Math.max(4 * halo, constants.min_size)));
    return { count, upTo: Math.min(upTo, count + lanes - 1) };
  });
  for (let rows = most.count; rows <= most.upTo; rows++) {
    for (let columns = many.count; columns <= many.upTo; columns++) {
      const window = [fitted(size[0], rows, halo, constants), fitted(size[1], columns, halo, constants)] as const;
      const cost = Math.ceil((rows * columns) / lanes) * window[0] * window[1];
      if (cost < least[0] || (cost === least[0] && rows * columns < least[1])) {
        least = [cost, rows * columns];
        best = window;
      }
    }
  }
  return best;
}

/** The inputs of the lens blur or of the step; the step has `picture_high`. */
export interface LevelInputs {
  readonly picture: Planes;
  readonly signed_depth: Planes;
  readonly blurred?: Planes;
  readonly picture_high?: Planes;
}

/**
 * The output of the lens blur or of the step for a whole level, as the network gives it: not clipped.
 *
 * `level` names network and level among what `options.features` keeps.
 */
export async function runLevel(
  network: Network, inputs: LevelInputs, level: string, constants: Constants, variant: Variant, options: TileOptions,
): Promise<Planes> {
  const high = inputs.picture_high;
  const scale = high ? 2 : 1;
  const halo = high ? variant.halo.upsample : variant.halo.lens_blur;
  const { height, width } = inputs.picture;
  const side = options.tile ?? Math.max(height, width);
  if (side % constants.alignment !== 0 || (side < Math.max(height, width) && side <= 2 * halo)) {
    throw new Error(`tiles of ${side}: give a multiple of ${constants.alignment} that is more than ${2 * halo}`);
  }
  const window = windowSize([height, width], side, halo, high ? options.lanes ?? 1 : 1, constants);
  const out = zeros(3, [scale * height, scale * width]);
  const tiles = windows(height, window[0], halo).flatMap((rows) =>
    windows(width, window[1], halo).map((columns) => [rows, columns] as const));
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let at = next++; at < tiles.length; at = next++) {
      await options.beforeTile?.();
      const [rows, columns] = tiles[at];
      const size: Size = [rows.end - rows.start, columns.end - columns.start];
      const tile: Record<string, Planes> = {};
      for (const [name, planes] of Object.entries(inputs) as [string, Planes][]) {
        const by = name === "picture_high" ? 2 : 1;
        tile[name] = cropped(planes, by * rows.start, by * columns.start, [by * size[0], by * size[1]]);
      }
      const skipped = options.skips ? withoutNetwork(tile, rows, columns, constants, variant) : null;
      const result = skipped ?? (await runTile(network, tile, size, `${level} ${rows.start} ${columns.start}`, options));
      const kept = cropped(
        result, scale * (rows.from - rows.start), scale * (columns.from - columns.start),
        [scale * (rows.to - rows.from), scale * (columns.to - columns.from)],
      );
      place(kept, out, scale * rows.from, scale * columns.from);
    }
  };
  await Promise.all(Array.from({ length: Math.min(options.lanes ?? 1, tiles.length) }, lane));
  return out;
}

/** One tile through the network; throws an `Error` if it returns another size. */
async function runTile(
  network: Network, tile: Record<string, Planes>, size: Size, place: string, { features }: TileOptions,
): Promise<Planes> {
  const scale = tile.picture_high ? 2 : 1;
  const result = await (network.parts && features ? runParts(network.parts, tile, place, features) : network(tile));
  if (result.channels !== 3 || result.height !== scale * size[0] || result.width !== scale * size[1]) {
    throw new Error(`a network returned ${result.channels}×${result.height}×${result.width} for ${size.join("×")}`);
  }
  return result;
}

async function runParts(
  { photo, rest, feature }: Parts, tile: Record<string, Planes>, place: string, features: Features,
): Promise<Planes> {
  let made = features.get(place);
  if (!made) {
    made = await photo(tile);
    features.set(place, made);
  }
  return rest({ ...tile, [feature]: made });
}

/** What stands for the network's output where it hardly changes anything, or null: see "Skips". */
function withoutNetwork(
  tile: Record<string, Planes>, rows: Window, columns: Window, constants: Constants, variant: Variant,
): Planes | null {
  const { picture, signed_depth: depth, blurred, picture_high: high } = tile;
  if (variant.sharp_bound !== null && depth.data.every((value) => value === 0)) {
    if (!high) return picture;
    if (blurred.data.every((value, i) => Math.abs(value - picture.data[i]) <= constants.unblurred)) return high;
  }
  const least = variant.soft_radius;
  if (!high || least === null || variant.soft_bound === null) return null;
  const kept = cropped(
    depth, rows.from - rows.start, columns.from - columns.start, [rows.to - rows.from, columns.to - columns.from],
  );
  return kept.data.every((value) => constants.r_max * Math.abs(value) >= least) ? enlarged(blurred, 2) : null;
}

function place(part: Planes, whole: Planes, top: number, left: number): void {
  for (let c = 0; c < part.channels; c++) {
    for (let y = 0; y < part.height; y++) {
      const from = (c * part.height + y) * part.width;
      whole.data.set(part.data.subarray(from, from + part.width), (c * whole.height + top + y) * whole.width + left);
    }
  }
}
