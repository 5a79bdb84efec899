/** Which windows a network runs on, so that memory is bounded: section "Tiles" of docs/harness.md. */

import type { Size } from "./arrays.js";
import type { Constants } from "./constants.js";

/** One window along one axis: it reads [start, end) and keeps [from, to) of it. */
export interface Window {
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

/** Rows and columns of each window of at most `tile` pixels a side, from the top left; `lanes` of them run at once. */
export function split(
  size: Size, halo: number, tile: number, lanes: number, constants: Constants,
): (readonly [rows: Window, columns: Window])[] {
  const window = windowSize(size, tile, halo, lanes, constants);
  return windows(size[0], window[0], halo).flatMap((rows) =>
    windows(size[1], window[1], halo).map((columns) => [rows, columns] as const));
}
