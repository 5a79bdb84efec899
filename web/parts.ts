/**
 * Which parts of a level need a network, and which windows hold them.
 *
 * The step is left out where everything is very blurred, and both networks where everything is in focus. That is told
 * block by block, and windows are laid around the blocks that are left. The same as runtimes/parts.py.
 */

import type { Planes, Size } from "./arrays.js";
import type { Constants } from "./constants.js";
import { split, type Window } from "./tiling.js";

/** A run costs as much as this many low-resolution pixels more than its own: so many small ones are not worth it. */
const RUN_PIXELS = 2048;

/** A box of which more than this share is needed is not looked at any closer. */
const FULL = 0.9;

/** Largest side, in blocks, of a part that is filled without a network: it stays in the cache. */
const FILLED_BLOCKS = 64;

/** A part of a level: the network runs on what the windows read, or what they keep is filled without it. */
export interface Part {
  readonly kind: "run" | "soft" | "sharp";
  readonly rows: Window;
  readonly columns: Window;
}

/** Bits in rows: 1 is set. */
export interface Mask {
  readonly height: number;
  readonly width: number;
  readonly data: Uint8Array;
}

/** What needs no network, block by block. */
export interface Blocks {
  /** The circle of confusion is so large that a step gives the blurred picture, enlarged. */
  readonly soft: Mask;
  /** All that an output pixel there depends on is in focus. */
  readonly sharp: Mask;
}

/** Blocks [top, bottom) × [left, right). */
interface Area {
  readonly top: number;
  readonly bottom: number;
  readonly left: number;
  readonly right: number;
}

/** Side of a block in low-resolution pixels: what every window keeps begins and ends at a multiple of it. */
export function blockSide(constants: Constants): number {
  return constants.alignment / 2;
}

function mask(height: number, width: number): Mask {
  return { height, width, data: new Uint8Array(height * width) };
}

/** Everything of a level of `size` needs the network. */
export function noBlocks([height, width]: Size, constants: Constants): Blocks {
  const nothing = mask(height / blockSide(constants), width / blockSide(constants));
  return { soft: nothing, sharp: nothing };
}

/** Which blocks of a map of one channel have a smallest, or a largest, absolute value that passes `test`. */
export function blocksWhere(
  values: Planes, end: "smallest" | "largest", test: (value: number) => boolean, constants: Constants,
): Mask {
  const side = blockSide(constants);
  const out = mask(values.height / side, values.width / side);
  const { data, width } = values;
  const largest = end === "largest";
  for (let row = 0, at = 0; row < out.height; row++) {
    for (let column = 0; column < out.width; column++, at++) {
      let found = largest ? 0 : Infinity;
      for (let y = row * side; y < (row + 1) * side; y++) {
        for (let i = y * width + column * side, stop = i + side; i < stop; i++) {
          const value = data[i] < 0 ? -data[i] : data[i];
          if (largest ? value > found : value < found) found = value;
        }
      }
      if (test(found)) out.data[at] = 1;
    }
  }
  return out;
}

/** Whether a block and all within `reach` low-resolution pixels of it are set; there is nothing past the border. */
export function allNear(blocks: Mask, reach: number, constants: Constants): Mask {
  const steps = Math.ceil(reach / blockSide(constants));
  const { height, width } = blocks;
  /** One axis: `count` lines of `length` blocks, `along` from a block to the next, `across` from a line to the next. */
  const axis = (from: Uint8Array, count: number, length: number, along: number, across: number): Uint8Array => {
    const out = new Uint8Array(from.length);
    const unset = new Int32Array(length + 1);
    for (let line = 0; line < count; line++) {
      const start = line * across;
      for (let i = 0; i < length; i++) unset[i + 1] = unset[i] + (from[start + i * along] ? 0 : 1);
      for (let i = 0; i < length; i++) {
        const last = unset[Math.min(i + steps + 1, length)];
        if (last === unset[Math.max(i - steps, 0)]) out[start + i * along] = 1;
      }
    }
    return out;
  };
  const down = axis(blocks.data, width, height, width, 1);
  return { height, width, data: axis(down, height, width, 1, width) };
}

/** The windows of a grid, each run or left out. */
export function ofTiles(
  tiles: readonly (readonly [rows: Window, columns: Window])[], blocks: Blocks, constants: Constants,
): Part[] {
  const side = blockSide(constants);
  return tiles.map(([rows, columns]) => {
    const area = {
      top: Math.floor(rows.from / side), bottom: Math.ceil(rows.to / side),
      left: Math.floor(columns.from / side), right: Math.ceil(columns.to / side),
    };
    return { kind: uniform(blocks, area) ?? "run", rows, columns };
  });
}

/**
 * Windows around what needs the network, the largest first, and what is filled between them.
 *
 * `size` is the level's, in low-resolution pixels; `halo`, `tile` and `lanes` are those of `split`.
 */
export function around(
  size: Size, blocks: Blocks, halo: number, tile: number, lanes: number, constants: Constants,
): Part[] {
  const needed = mask(blocks.soft.height, blocks.soft.width);
  for (let i = 0; i < needed.data.length; i++) needed.data[i] = blocks.soft.data[i] || blocks.sharp.data[i] ? 0 : 1;
  const cost = costOf(halo, tile, blockSide(constants));
  const { boxes, rest } = divided(needed, { top: 0, bottom: needed.height, left: 0, right: needed.width }, cost);
  const runs = boxes.flatMap((box) => windowsOf(box, size, halo, tile, boxes.length === 1 ? lanes : 1, constants));
  const pixels = ({ rows, columns }: Part): number => (rows.end - rows.start) * (columns.end - columns.start);
  runs.sort((a, b) => pixels(b) - pixels(a));
  return [...runs, ...rest.flatMap((area) => filled(area, blocks, blockSide(constants)))];
}

function all(blocks: Mask, { top, bottom, left, right }: Area): boolean {
  for (let row = top; row < bottom; row++) {
    if (blocks.data.subarray(row * blocks.width + left, row * blocks.width + right).includes(0)) return false;
  }
  return true;
}

/** How all of some blocks are filled; null: not in one way. */
function uniform(blocks: Blocks, area: Area): "sharp" | "soft" | null {
  return all(blocks.sharp, area) ? "sharp" : all(blocks.soft, area) ? "soft" : null;
}

/** An area as boxes that are run and the rest, and what the boxes cost. */
interface Division {
  readonly cost: number;
  readonly boxes: readonly Area[];
  readonly rest: readonly Area[];
}

/** What boxes cost, in pixels, halos and runs counted too. */
interface Cost {
  (rows: number, columns: number): number;
  /** Windows that a side of so many blocks takes. */
  count(blocks: number): number;
}

function costOf(halo: number, tile: number, side: number): Cost {
  const count = (blocks: number): number => Math.ceil((side * blocks) / (tile - 2 * halo));
  const length = (blocks: number): number => side * blocks + 2 * halo * count(blocks);
  const cost = (rows: number, columns: number): number =>
    length(rows) * length(columns) + RUN_PIXELS * count(rows) * count(columns);
  return Object.assign(cost, { count });
}

/** An area of a mask as a mask of its own. */
function within(blocks: Mask, { top, bottom, left, right }: Area): Mask {
  const out = mask(bottom - top, right - left);
  for (let row = top; row < bottom; row++) {
    const from = row * blocks.width;
    out.data.set(blocks.data.subarray(from + left, from + right), (row - top) * out.width);
  }
  return out;
}

/** The smallest area within `area` that holds all its blocks that are set; null: none is. */
function boxOf(blocks: Mask, area: Area): Area | null {
  let [top, bottom, left, right] = [area.bottom, area.top, area.right, area.left];
  for (let row = area.top; row < area.bottom; row++) {
    const line = blocks.data.subarray(row * blocks.width + area.left, row * blocks.width + area.right);
    const first = line.indexOf(1);
    if (first < 0) continue;
    top = Math.min(top, row);
    bottom = row + 1;
    left = Math.min(left, area.left + first);
    right = Math.max(right, area.left + line.lastIndexOf(1) + 1);
  }
  return bottom > top ? { top, bottom, left, right } : null;
}

/** Divide an area into boxes that hold all blocks that are needed, and the rest: cut in two as long as that pays. */
function divided(needed: Mask, area: Area, cost: Cost): Division {
  const box = boxOf(needed, area);
  if (!box) return { cost: 0, boxes: [], rest: [area] };
  const { top, bottom, left, right } = box;
  const aroundIt = [
    { ...area, bottom: top }, { ...area, top: bottom },
    { ...area, top, bottom, right: left }, { ...area, top, bottom, left: right },
  ].filter((each) => each.top < each.bottom && each.left < each.right);
  let best: Division = { cost: cost(bottom - top, right - left), boxes: [box], rest: [] };
  const halves = halvesOf(within(needed, box), box, best.cost, cost);
  if (halves) {
    const [one, other] = halves.map((half) => divided(needed, half, cost));
    const parts = one.cost + other.cost;
    if (parts <= best.cost) {
      best = { cost: parts, boxes: [...one.boxes, ...other.boxes], rest: [...one.rest, ...other.rest] };
    }
  }
  return { ...best, rest: [...best.rest, ...aroundIt] };
}

/** The two parts that a box is tried in; null: it stays whole. */
function halvesOf(found: Mask, box: Area, whole: number, cost: Cost): readonly [Area, Area] | null {
  let [[across, row], [along, column]] = [bestCut(found, cost), bestCut(transposed(found), cost)];
  if (Math.min(across, along) >= whole) { // no single cut pays: two may
    [row, column] = [windowBorder(found.height, cost), windowBorder(found.width, cost)];
    const set = found.data.reduce((sum, each) => sum + each, 0);
    if (set / found.data.length > FULL || (row === 0 && column === 0)) return null;
    [across, along] = [column > row ? 1 : 0, 0.5];
  }
  if (across <= along) return [{ ...box, bottom: box.top + row }, { ...box, top: box.top + row }];
  return [{ ...box, right: box.left + column }, { ...box, left: box.left + column }];
}

/** Where a side of so many blocks is cut into the windows that it takes, near its middle; 0: it takes one. */
function windowBorder(blocks: number, cost: Cost): number {
  const count = cost.count(blocks);
  return Math.ceil(blocks / count) * Math.floor(count / 2);
}

function transposed(blocks: Mask): Mask {
  const out = mask(blocks.width, blocks.height);
  for (let row = 0, at = 0; row < blocks.height; row++) {
    for (let column = 0; column < blocks.width; column++) out.data[column * out.width + row] = blocks.data[at++];
  }
  return out;
}

/** The cheapest cut between two rows of a box, and the row below it; both parts are then drawn in. */
function bestCut(found: Mask, cost: Cost): readonly [cost: number, row: number] {
  const { height, width, data } = found;
  if (height < 2) return [Infinity, 0];
  /** What the first row, the first two and so on cost, from the top or from the bottom. */
  const costs = (upwards: boolean): Float64Array => {
    const out = new Float64Array(height - 1);
    let [left, right, rows] = [width, 0, 0];
    for (let i = 0; i < height - 1; i++) {
      const row = upwards ? height - 1 - i : i;
      const line = data.subarray(row * width, (row + 1) * width);
      const first = line.indexOf(1);
      if (first >= 0) {
        left = Math.min(left, first);
        right = Math.max(right, line.lastIndexOf(1) + 1);
        rows = i + 1;
      }
      out[i] = cost(rows, right - left);
    }
    return out;
  };
  const [above, below] = [costs(false), costs(true)];
  let best = 0;
  for (let i = 0; i < height - 1; i++) {
    above[i] += below[height - 2 - i];
    if (above[i] < above[best]) best = i;
  }
  return [above[best], best + 1];
}

/** Windows that keep a box, together and no more, and read a halo around it. */
function windowsOf(box: Area, size: Size, halo: number, tile: number, lanes: number, constants: Constants): Part[] {
  const side = blockSide(constants);
  const kept = [[box.top * side, box.bottom * side], [box.left * side, box.right * side]] as const;
  const reads = kept.map(([from, to], axis) => readOf(from, to, size[axis], halo, constants));
  const [height, width] = reads.map(([start, end]) => end - start);
  const placed = (window: Window, axis: number): Window => ({
    start: window.start + reads[axis][0],
    end: window.end + reads[axis][0],
    from: Math.max(window.from + reads[axis][0], kept[axis][0]),
    to: Math.min(window.to + reads[axis][0], kept[axis][1]),
  });
  return split([height, width], halo, tile, lanes, constants)
    .map(([rows, columns]): Part => ({ kind: "run", rows: placed(rows, 0), columns: placed(columns, 1) }))
    .filter(({ rows, columns }) => rows.from < rows.to && columns.from < columns.to);
}

/** [from, to) and a halo around it, of an aligned size within [0, length). */
export function readOf(
  from: number, to: number, length: number, halo: number, constants: Constants,
): readonly [start: number, end: number] {
  const start = Math.max(0, from - halo);
  const end = Math.min(length, to + halo);
  const wanted = Math.max(constants.min_size, constants.alignment * Math.ceil((end - start) / constants.alignment));
  const last = Math.min(length, start + wanted);
  return [last - wanted, last];
}

/** Parts of an area without a needed block, each filled in one way. */
function filled(area: Area, blocks: Blocks, side: number): Part[] {
  const { top, bottom, left, right } = area;
  const [height, width] = [bottom - top, right - left];
  const kind = uniform(blocks, area);
  if (kind && Math.max(height, width) <= FILLED_BLOCKS) {
    const window = (from: number, to: number): Window => ({ start: from, end: to, from, to });
    return [{ kind, rows: window(side * top, side * bottom), columns: window(side * left, side * right) }];
  }
  const [row, column] = [top + Math.floor(height / 2), left + Math.floor(width / 2)];
  const halves = height >= width
    ? [{ ...area, bottom: row }, { ...area, top: row }]
    : [{ ...area, right: column }, { ...area, left: column }];
  return halves.flatMap((half) => filled(half, blocks, side));
}
