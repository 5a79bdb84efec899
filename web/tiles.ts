/** A network run on a level: whole, or in windows that overlap. */

import { cropped, enlarged, place, zeros, type Planes, type Region } from "./arrays.js";
import type { Constants, Variant } from "./constants.js";
import type { Run } from "./network.js";
import { allNear, around, blockSide, blocksWhere, noBlocks, ofTiles, type Blocks, type Mask, type Part } from "./parts.js";
import type { Sink } from "./result.js";
import { split, type Window } from "./tiling.js";

export interface TileOptions {
  /** Side of the windows in low-resolution pixels, a multiple of `alignment`; without it a level is computed whole. */
  readonly tile?: number;
  /** How many windows are given to the network at the same time; without it one. */
  readonly lanes?: number;
  /** How many more windows are got ready meanwhile, so that no lane waits; without it none. */
  readonly ahead?: number;
  /** Awaited before each window; what it throws ends the work, for instance because a newer request came. */
  readonly beforeTile?: () => Promise<void>;
  /** Leave out the networks where they hardly change anything; changes the result by at most the variant's bounds. */
  readonly skips?: boolean;
  /** Give what a network gave as it is; without it what it gave is clipped to [0, 1]. */
  readonly raw?: boolean;
  /** Windows of one size only, in a grid: for what gets ready for each new size. */
  readonly grid?: boolean;
}

/** The inputs of the lens blur or of the step; the step has `picture_high`. */
export interface LevelInputs {
  readonly picture: Planes;
  readonly signed_depth: Planes;
  readonly blurred?: Planes;
  readonly picture_high?: Planes;
}

/** The output of the lens blur or of the step for a whole level. */
export async function runLevel(
  network: Run, inputs: LevelInputs, constants: Constants, variant: Variant, options: TileOptions,
): Promise<Planes> {
  const scale = inputs.picture_high ? 2 : 1;
  const out = zeros(3, [scale * inputs.picture.height, scale * inputs.picture.width]);
  const put = (from: Planes, top: number, left: number, part: Region): void =>
    place(from, out, top, left, part, !options.raw);
  await runLevelInto({ put }, network, inputs, constants, variant, options);
  return out;
}

/** Gives the parts of that output to `sink`. What a network gave is not clipped. */
export async function runLevelInto(
  sink: Sink, network: Run, inputs: LevelInputs, constants: Constants, variant: Variant, options: TileOptions,
): Promise<void> {
  const high = inputs.picture_high;
  const scale = high ? 2 : 1;
  const halo = high ? variant.halo.upsample : variant.halo.lens_blur;
  const { height, width } = inputs.picture;
  const side = options.tile ?? Math.max(height, width);
  if (side % constants.alignment !== 0 || (side < Math.max(height, width) && side <= 2 * halo)) {
    throw new Error(`tiles of ${side}: give a multiple of ${constants.alignment} that is more than ${2 * halo}`);
  }
  const lanes = high ? options.lanes ?? 1 : 1;
  const blocks = options.skips ? blocksOf(inputs, constants, variant) : noBlocks([height, width], constants);
  const parts = options.grid || !options.tile || side <= 2 * halo
    ? ofTiles(split([height, width], halo, side, lanes, constants), blocks, constants)
    : around([height, width], blocks, halo, side, lanes, constants);

  const made = async ({ kind, rows, columns }: Part): Promise<void> => {
    if (kind === "sharp") return lay(high ?? inputs.picture, sink, scale, rows, columns);
    if (kind === "soft") return layDoubled(inputs.blurred as Planes, sink, rows, columns);
    const read = (planes: Planes, by: number): Planes => cropped(
      planes, by * rows.start, by * columns.start, [by * (rows.end - rows.start), by * (columns.end - columns.start)],
    );
    const seen: Record<string, Planes> = {};
    let given = true;
    for (const [name, planes] of Object.entries(inputs) as [string, Planes][]) {
      seen[name] = read(planes, name === "picture_high" ? 2 : 1);
      if (seen[name] === planes) given = false;
    }
    const result = await network(seen, given);
    const size = [scale * (rows.end - rows.start), scale * (columns.end - columns.start)];
    if (result.channels !== 3 || result.height !== size[0] || result.width !== size[1]) {
      throw new Error(`a network returned ${result.channels}×${result.height}×${result.width} for ${size.join("×")}`);
    }
    sink.put(result, scale * rows.from, scale * columns.from, {
      top: scale * (rows.from - rows.start), left: scale * (columns.from - columns.start),
      height: scale * (rows.to - rows.from), width: scale * (columns.to - columns.from),
    });
  };
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let at = next++; at < parts.length; at = next++) {
      await options.beforeTile?.();
      await made(parts[at]);
    }
  };
  const atOnce = (options.lanes ?? 1) + (options.ahead ?? 0);
  await Promise.all(Array.from({ length: Math.min(atOnce, parts.length) }, lane));
}

/** What of a level needs no run, by what the variant says of its networks: see "Skips". */
function blocksOf(inputs: LevelInputs, constants: Constants, variant: Variant): Blocks {
  const { picture, signed_depth: depth, blurred, picture_high: high } = inputs;
  const none = noBlocks([picture.height, picture.width], constants);
  const { soft_radius: softRadius, r_max: most } = { ...variant, ...constants };
  let { soft, sharp } = none;
  if (high && softRadius !== null && variant.soft_bound !== null) {
    soft = blocksWhere(depth, "smallest", (value) => most * value >= softRadius, constants);
  }
  if (variant.sharp_bound !== null) {
    const halo = high ? variant.halo.upsample : variant.halo.lens_blur;
    const focused = blocksWhere(depth, "largest", (value) => value === 0, constants);
    sharp = allNear(focused, halo, constants);
    if (high && blurred && sharp.data.includes(1)) {
      sharp = allNear(unblurred(focused, blurred, picture, constants), halo, constants);
    }
  }
  return { soft, sharp };
}

/** In which of the blocks in focus no blur of what lies elsewhere is seen. */
function unblurred(focused: Mask, blurred: Planes, picture: Planes, constants: Constants): Mask {
  const side = blockSide(constants);
  const count = picture.height * picture.width;
  const same = (row: number, column: number): boolean => {
    for (let y = side * row; y < side * (row + 1); y++) {
      const from = y * picture.width + side * column;
      for (let c = 0; c < 3 * count; c += count) {
        for (let i = c + from; i < c + from + side; i++) {
          if (Math.abs(blurred.data[i] - picture.data[i]) > constants.unblurred) return false;
        }
      }
    }
    return true;
  };
  const data = focused.data.map((set, at) =>
    set && same(Math.floor(at / focused.width), at % focused.width) ? 1 : 0);
  return { ...focused, data };
}

/** Give what a part keeps of `from`, which has `scale` times the low-resolution size. */
function lay(from: Planes, sink: Sink, scale: number, rows: Window, columns: Window): void {
  const [top, left] = [scale * rows.from, scale * columns.from];
  const [height, width] = [scale * (rows.to - rows.from), scale * (columns.to - columns.from)];
  sink.put(from, top, left, { top, left, height, width });
}

/** Give what a part keeps of the blurred picture, bilinearly at twice the size. */
function layDoubled(blurred: Planes, sink: Sink, rows: Window, columns: Window): void {
  const [top, left] = [Math.max(0, rows.from - 1), Math.max(0, columns.from - 1)];
  const [bottom, right] = [Math.min(blurred.height, rows.to + 1), Math.min(blurred.width, columns.to + 1)];
  const grown = enlarged(cropped(blurred, top, left, [bottom - top, right - left]), 2);
  sink.put(grown, 2 * rows.from, 2 * columns.from, {
    top: 2 * (rows.from - top), left: 2 * (columns.from - left),
    height: 2 * (rows.to - rows.from), width: 2 * (columns.to - columns.from),
  });
}
