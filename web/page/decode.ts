/** A photo's file as pixels: the browser decodes it, turns it upright and brings it to sRGB. */

import type { Photo } from "../arrays.js";

export interface Decoded {
  readonly photo: Photo;
  /** Of each pixel from 0 to 255, where the photo has any that is not 255. */
  readonly alpha: Uint8Array | null;
  readonly picture: ImageBitmap;
}

/** The largest photo that is opened, in pixels: the networks' levels of it take 1.5 GB. */
export const MOST_PIXELS = 40e6;

const HEIC = new Set(["heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"]);

/** Why a file can't be opened, in words for a person. */
export function refusal(head: Uint8Array, name: string): string {
  const text = (from: number, to: number): string => String.fromCharCode(...head.subarray(from, to));
  if (text(4, 8) === "ftyp" && HEIC.has(text(8, 12))) {
    return `${name} is a HEIC photo, which this browser can't read. Open the page in Safari, or save the photo as JPEG: ` +
      "on an iPhone under Settings, Camera, Formats, Most Compatible.";
  }
  if (text(0, 4) === "II*\0" || text(0, 4) === "MM\0*") {
    return `${name} is a TIFF or raw photo, which browsers can't read. Save it as JPEG or PNG.`;
  }
  if (head.length === 0) return `${name} is empty. Choose another photo.`;
  return `${name} is not a photo that this browser can read, or it is damaged. Use JPEG, PNG, WebP or AVIF.`;
}

/** Throws an `Error` for a person if the file can't be opened. */
export async function decoded(file: Blob, name: string): Promise<Decoded> {
  let picture: ImageBitmap;
  try {
    picture = await createImageBitmap(file, { imageOrientation: "from-image", premultiplyAlpha: "none" });
  } catch {
    throw new Error(refusal(new Uint8Array(await file.slice(0, 16).arrayBuffer()), name));
  }
  const { width, height } = picture;
  if (width * height > MOST_PIXELS) {
    picture.close();
    throw new Error(
      `${name} has ${(width * height / 1e6).toFixed(0)} million pixels, and the page takes ${MOST_PIXELS / 1e6} million. ` +
        "Make it smaller, or use deeplens refocus.",
    );
  }
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error(`${name} is too large for this browser. Use a smaller photo.`);
  context.drawImage(picture, 0, 0);
  const rgba = context.getImageData(0, 0, width, height, { colorSpace: "srgb" }).data;
  const count = width * height;
  const data = new Uint8Array(3 * count);
  const alpha = new Uint8Array(count);
  let opaque = true;
  for (let i = 0, from = 0, to = 0; i < count; i++, from += 4, to += 3) {
    data[to] = rgba[from];
    data[to + 1] = rgba[from + 1];
    data[to + 2] = rgba[from + 2];
    alpha[i] = rgba[from + 3];
    opaque &&= alpha[i] === 255;
  }
  return { photo: { height, width, data }, alpha: opaque ? null : alpha, picture };
}
