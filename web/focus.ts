/** Disparity and where the focus is: normalised maps, maps from the depth network, focus points, the nearest subject. */

import { mapped, resizedBytes, type Photo, type Planes } from "./arrays.js";
import type { Constants } from "./constants.js";
import type { Run } from "./network.js";

/** A focus point of the photo, from (0, 0) at the top left to (1, 1) at the bottom right. */
export type Point = readonly [x: number, y: number];

/** The disparities that are sharp: all that are at most `range` / 2 from `disparity`. */
export interface Focus {
  readonly disparity: number;
  readonly range: number;
}

function limits(map: Planes): [low: number, high: number] {
  let low = Infinity;
  let high = -Infinity;
  for (const value of map.data) {
    if (!Number.isFinite(value)) throw new Error("the disparity map holds values that are not finite numbers");
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  return [low, high];
}

/** Inverse depth in any units as disparity in [0, 1]. */
export function normalised(map: Planes, constants: Constants): Planes {
  const [low, high] = limits(map);
  return mapped(map, (value) => Math.min(1, (value - low) / (high - low + constants.epsilon)));
}

/** Throws an `Error` unless all values of the map are in [0, 1]. */
export function checkNormalised(map: Planes): void {
  const [low, high] = limits(map);
  if (low < 0 || high > 1) throw new Error(`disparity from ${low} to ${high}: normalise the map first`);
}

/** The photo as the depth network gets it, in bytes: 3 × `depth_size` × `depth_size` numbers from 0 to 255. */
export function depthPicture(photo: Photo, constants: Constants): Planes {
  return resizedBytes(photo, [constants.depth_size, constants.depth_size]);
}

/** The disparity that the depth network sees in the photo: 1 × `depth_size` × `depth_size`, in [0, 1]. */
export async function estimatedDisparity(photo: Photo, depth: Run, constants: Constants): Promise<Planes> {
  const picture = mapped(depthPicture(photo, constants), (value) => value / 255);
  return normalised(await depth({ picture }), constants);
}

/** The focus of one or more points, read from the given map; throws an `Error` for a point outside the photo. */
export function focusAt(map: Planes, points: readonly Point[]): Focus {
  if (points.length === 0) throw new Error("a focus point is needed");
  const read = points.map(([x, y]) => {
    if (!(x >= 0 && x <= 1 && y >= 0 && y <= 1)) throw new Error(`the focus point ${x}, ${y} is outside 0 to 1`);
    const row = Math.min(Math.floor(y * map.height), map.height - 1);
    return map.data[row * map.width + Math.min(Math.floor(x * map.width), map.width - 1)];
  });
  const low = Math.min(...read);
  const high = Math.max(...read);
  return { disparity: (low + high) / 2, range: Math.min(high - low, 1) };
}

/** The focus on what is nearest around the middle of the photo. */
export function nearestSubject(map: Planes, constants: Constants): Focus {
  const { height, width, data } = map;
  const spread = 2 * constants.subject_sigma ** 2;
  const weight = (i: number): number => {
    const u = ((i % width) + 0.5) / width - 0.5;
    const v = (Math.floor(i / width) + 0.5) / height - 0.5;
    return Math.exp(-(u * u + v * v) / spread);
  };
  const order = Uint32Array.from(data, (_, i) => i).sort((a, b) => data[a] - data[b]);
  let whole = 0;
  for (const i of order) whole += weight(i);
  let sum = 0;
  for (const i of order) {
    sum += weight(i);
    if (sum >= constants.subject_share * whole) return { disparity: data[i], range: 0 };
  }
  return { disparity: data[order[order.length - 1]], range: 0 };
}
