/** What a network makes of the photo alone, kept between two refocusings: it is the same for each focus and aperture. */

import { cropped, place, zeros, type Planes, type Size } from "./arrays.js";
import type { Constants } from "./constants.js";
import type { Run } from "./network.js";
import { readOf } from "./parts.js";
import type { Window } from "./tiling.js";

/** Side of a cell in low-resolution pixels, without its halo; a multiple of `alignment`. */
const CELL = 232;

/**
 * Windows move with the focus, so what is kept lies in the cells of a grid that stays: each is made when a window first
 * needs it, with a halo around it, and a window is put together from those that it touches.
 */
export class PhotoFeatures {
  private readonly cells = new Map<string, Planes | Promise<Planes>>();
  /** Bytes for each low-resolution pixel; 0 until the first cell is made. */
  private density = 0;

  /** At most about `room` bytes are kept. */
  constructor(private room: number) {}

  /**
   * What `photo` makes of a window of a level, of which `high` is the whole picture at twice the size.
   *
   * `level` names the level. Null: not all of it is kept, and there is no room for the rest.
   */
  async of(
    photo: Run, high: Planes, level: string, rows: Window, columns: Window, halo: number, constants: Constants,
  ): Promise<Planes | null> {
    const size: Size = [high.height / 2, high.width / 2];
    const touched = cellsOf(rows, size[0]).flatMap(([top, bottom]) =>
      cellsOf(columns, size[1]).map(([left, right]) => ({ top, bottom, left, right, name: `${level} ${top} ${left}` })));
    const missing = touched.filter(({ name }) => !this.cells.has(name));
    const pixels = missing.reduce((sum, each) => sum + (each.bottom - each.top) * (each.right - each.left), 0);
    if (missing.length > 0 && this.density * pixels >= this.room) return null;
    for (const each of missing) {
      const area = (each.bottom - each.top) * (each.right - each.left);
      const reserved = this.density * area;
      this.room -= reserved;
      const making = made(photo, high, each, size, halo, constants).then((kept) => {
        this.density = kept.data.byteLength / area;
        this.room -= kept.data.byteLength - reserved;
        this.cells.set(each.name, kept);
        return kept;
      });
      making.catch(() => {
        this.cells.delete(each.name);
        this.room += reserved;
      });
      this.cells.set(each.name, making);
    }
    const found = await Promise.all(touched.map(({ name }) => this.cells.get(name) as Planes | Promise<Planes>));
    const scale = found[0].height / (touched[0].bottom - touched[0].top);
    const out = zeros(found[0].channels, [scale * (rows.end - rows.start), scale * (columns.end - columns.start)]);
    touched.forEach(({ top, bottom, left, right }, i) => {
      const [first, last] = [Math.max(top, rows.start), Math.min(bottom, rows.end)];
      const [begin, end] = [Math.max(left, columns.start), Math.min(right, columns.end)];
      place(found[i], out, scale * (first - rows.start), scale * (begin - columns.start), {
        top: scale * (first - top), left: scale * (begin - left),
        height: scale * (last - first), width: scale * (end - begin),
      });
    });
    return out;
  }
}

/** Where the cells that a window reads begin and end. */
function cellsOf({ start, end }: Window, length: number): (readonly [from: number, to: number])[] {
  const first = Math.floor(start / CELL);
  return Array.from({ length: Math.ceil(end / CELL) - first }, (_, i) =>
    [CELL * (first + i), Math.min(CELL * (first + i + 1), length)] as const);
}

/** One cell. */
async function made(
  photo: Run, high: Planes, cell: { top: number; bottom: number; left: number; right: number }, size: Size,
  halo: number, constants: Constants,
): Promise<Planes> {
  const [top, bottom] = readOf(cell.top, cell.bottom, size[0], halo, constants);
  const [left, right] = readOf(cell.left, cell.right, size[1], halo, constants);
  const seen = cropped(high, 2 * top, 2 * left, [2 * (bottom - top), 2 * (right - left)]);
  const found = await photo({ picture_high: seen }, seen !== high);
  const scale = found.height / (bottom - top);
  return cropped(found, scale * (cell.top - top), scale * (cell.left - left), [
    scale * (cell.bottom - cell.top), scale * (cell.right - cell.left),
  ]);
}
