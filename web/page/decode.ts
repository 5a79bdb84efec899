/** A photo's file as pixels: decoded, turned upright and brought to sRGB; with the depth map that a phone put into it. */

import { mapped, zeros, type Photo, type Planes } from "../arrays.js";
import { kindOf, said } from "./boxes.js";
import { toSrgb, type Space } from "./colour.js";
import { coloursOf } from "./colour_said.js";
import { fillHidden } from "./hidden.js";
import { readHeic, type Heic } from "./heic.js";
import { storedPng } from "./png.js";
import { storedDepth } from "./portrait.js";

export interface Decoded {
  readonly photo: Photo;
  /** Of each pixel from 0 to 255, where the photo has any that is not 255. */
  readonly alpha: Uint8Array | null;
  readonly picture: ImageBitmap;
  /** The depth map in the photo, as disparity in any units, near = large; null: it has none. */
  readonly depth: Planes | null;
  /** What a person is told of it. */
  readonly notes: readonly string[];
}

/** The largest photo that is opened, in pixels: the networks' levels of it take 1.5 GB. */
export const MOST_PIXELS = 40e6;

/** Why a file can't be opened, in words for a person. */
export function refusal(head: Uint8Array, name: string): string {
  const text = (from: number, to: number): string => String.fromCharCode(...head.subarray(from, to));
  if (text(0, 4) === "II*\0" || text(0, 4) === "MM\0*") {
    return `${name} is a TIFF or raw photo, which browsers can't read. Save it as JPEG or PNG.`;
  }
  if (head.length === 0) return `${name} is empty. Choose another photo.`;
  return `${name} is not a photo that this browser can read, or it is damaged. Use JPEG, PNG, WebP, AVIF or HEIC.`;
}

/** `as stored`: the numbers of the file, whatever it says of its colours. */
async function bitmap(file: Blob, colours: "as sRGB" | "as stored" = "as sRGB"): Promise<ImageBitmap> {
  return createImageBitmap(file, {
    imageOrientation: "from-image", premultiplyAlpha: "none",
    colorSpaceConversion: colours === "as stored" ? "none" : "default",
  });
}

/** Throws an `Error` for a person if the file can't be opened. `base` is the page's address. */
export async function decoded(file: Blob, data: Uint8Array, name: string, base: string): Promise<Decoded> {
  const kind = kindOf(data);
  const { space, stored, bits } = coloursOf(data);
  const colours = stored ? "as stored" : "as sRGB";
  const notes: string[] = [];
  let picture: ImageBitmap | null = null;
  let depth: Planes | null = null;
  if (kind !== "heic" || !space) picture = await bitmap(file, colours).catch(() => null);
  if (kind === "heic" && (!picture || said(data).depth)) {
    const heic = await readHeic(data, name, base, MOST_PIXELS, Boolean(space?.hdr));
    picture ??= await heicPicture(heic, space);
    depth = heic.depth;
    notes.push(...heic.notes);
  }
  if (!picture && data[0] === 0xff && data[1] === 0xd8) { // viewers show a JPEG without its end too
    const whole = new Blob([data as Uint8Array<ArrayBuffer>, Uint8Array.of(0xff, 0xd9)]);
    picture = await bitmap(whole, colours).catch(() => null);
    if (picture) notes.push("The file ends too early: the last lines of the photo may be missing.");
  }
  if (!picture) throw new Error(refusal(data.subarray(0, 16), name));
  if (bits > 8) notes.push(`The photo has ${bits} bits a colour, and it is saved with 8.`);
  if (space?.hdr) notes.push(`The photo is HDR (${space.hdr}). It is saved without: what is brighter than white paper becomes white.`);
  if (kind === "avif" && said(data).depth) notes.push("The depth map in the photo is not used: the page reads none in AVIF.");
  const { width, height } = picture;
  if (width * height > MOST_PIXELS) {
    picture.close();
    throw new Error(
      `${name} has ${(width * height / 1e6).toFixed(0)} million pixels, and the page takes ${MOST_PIXELS / 1e6} million. ` +
        "Make it smaller, or use deeplens refocus.",
    );
  }
  if (!kind) depth = await jpegDepth(data, notes);
  if (space && kind !== "heic") {
    const rgba = pixelsOf(picture, name);
    picture.close();
    picture = await shown(toSrgb(rgba, 4, 8, width, height, space));
  }
  const rgba = pixelsOf(picture, name);
  const count = width * height;
  const pixels = new Uint8Array(3 * count);
  const alpha = new Uint8Array(count);
  let opaque = true;
  for (let i = 0, from = 0, to = 0; i < count; i++, from += 4, to += 3) {
    pixels[to] = rgba[from];
    pixels[to + 1] = rgba[from + 1];
    pixels[to + 2] = rgba[from + 2];
    alpha[i] = rgba[from + 3];
    opaque &&= alpha[i] === 255;
  }
  const photo = { height, width, data: pixels };
  if (!opaque) fillHidden(photo, alpha);
  return { photo, alpha: opaque ? null : alpha, picture, depth, notes };
}

function shown(image: ImageData): Promise<ImageBitmap> {
  return createImageBitmap(image, { premultiplyAlpha: "none" });
}

function heicPicture({ width, height, values, channels, valueBits, icc }: Heic, space: Space | null): Promise<ImageBitmap> {
  if (space) return shown(toSrgb(values, channels, valueBits, width, height, space));
  return bitmap(storedPng(values as Uint8Array, width, height, icc)); // the browser applies the profile
}

function pixelsOf(picture: ImageBitmap, name: string): Uint8ClampedArray {
  const { width, height } = picture;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error(`${name} is too large for this browser. Use a smaller photo.`);
  context.drawImage(picture, 0, 0);
  return context.getImageData(0, 0, width, height, { colorSpace: "srgb" }).data;
}

/** The depth map of a portrait photo, turned as the photo is; `notes` says why one is not used. */
async function jpegDepth(data: Uint8Array, notes: string[]): Promise<Planes | null> {
  try {
    const stored = storedDepth(data);
    if (!stored) return null;
    const type = stored.content[0] === 0x89 ? "image/png" : "image/jpeg";
    let map: ImageBitmap;
    try {
      map = await createImageBitmap(new Blob([stored.content], { type }), { colorSpaceConversion: "none" });
    } catch {
      throw new Error("it is damaged");
    }
    const rgba = pixelsOf(map, "the depth map");
    const out = zeros(1, [map.height, map.width]);
    for (let i = 0; i < out.data.length; i++) out.data[i] = rgba[4 * i] / 255;
    // The browser turns a map that says itself how it lies; another one lies as the photo does.
    const turned = orientationOf(stored.content) === null ? orientationOf(data) ?? 1 : 1;
    return upright(mapped(out, stored.disparity), turned);
  } catch (error) {
    notes.push(`The depth map in the photo is not used: ${(error as Error).message}.`);
    return null;
  }
}

/** The orientation that a JPEG's EXIF says, from 1 to 8; null: it says none. */
function orientationOf(data: Uint8Array): number | null {
  for (let at = 2; at + 12 < data.length && data[at] === 0xff && data[at + 1] !== 0xda;) {
    const length = data[at + 2] * 256 + data[at + 3];
    if (data[at + 1] === 0xe1 && data[at + 4] === 0x45 && data[at + 5] === 0x78) {
      const view = new DataView(data.buffer, data.byteOffset + at + 10, Math.max(0, Math.min(length - 8, data.length - at - 10)));
      try {
        const little = view.getUint16(0) === 0x4949;
        const main = view.getUint32(4, little);
        for (let i = 0; i < view.getUint16(main, little); i++) {
          if (view.getUint16(main + 2 + 12 * i, little) === 0x0112) return view.getUint16(main + 10 + 12 * i, little);
        }
      } catch {
        return null;
      }
    }
    at += 2 + Math.max(2, length);
  }
  return null;
}

/** A map turned by an orientation of EXIF. */
export function upright(map: Planes, orientation: number): Planes {
  if (!(orientation >= 2 && orientation <= 8)) return map;
  const { height, width, data } = map;
  const turned = orientation >= 5;
  const out = zeros(1, turned ? [width, height] : [height, width]);
  // Where the first row and the first column of what is stored stand in the picture.
  const flipRows = [3, 4, 7, 8].includes(orientation);
  const flipColumns = [2, 3, 6, 7].includes(orientation);
  for (let y = 0; y < out.height; y++) {
    for (let x = 0; x < out.width; x++) {
      const [v, u] = [flipRows ? out.height - 1 - y : y, flipColumns ? out.width - 1 - x : x];
      out.data[y * out.width + x] = turned ? data[u * width + v] : data[v * width + u];
    }
  }
  return out;
}
