/** The depth in a portrait photo of a phone, in a JPEG: GDepth and Dynamic Depth in its XMP, and Apple's in the MPF. */

import { Xmp } from "./xmp.js";

const GDEPTH = "http://ns.google.com/photos/1.0/depthmap/";
const DYNAMIC = "http://ns.google.com/photos/dd/1.0/depthmap/";
const AUXILIARY = "http://ns.apple.com/pixeldatainfo/1.0/";
/** What the container calls the depth map, where DepthMap:DepthURI says nothing. */
const NAMES = ["android/depthmap", "Depth", "DepthMap"];
const MOST_PICTURES = 64;

/** A depth map as the file has it: a JPEG or PNG of values v in [0, 1], and how disparity follows from v. */
export interface Stored {
  readonly content: Uint8Array<ArrayBuffer>;
  readonly disparity: (v: number) => number;
}

interface Segment {
  readonly marker: number;
  readonly at: number;
  readonly content: Uint8Array;
}

function segments(data: Uint8Array): Segment[] {
  const found: Segment[] = [];
  for (let at = data[0] === 0xff && data[1] === 0xd8 ? 2 : data.length; at + 4 <= data.length && data[at] === 0xff;) {
    const marker = data[at + 1];
    if (marker === 0xda) break;
    if (marker === 0xff) { // a fill byte
      at++;
      continue;
    }
    const length = Math.max(2, data[at + 2] * 256 + data[at + 3]);
    found.push({ marker, at: at + 4, content: data.subarray(at + 4, at + 2 + length) });
    at += 2 + length;
  }
  return found;
}

function xmpOf(data: Uint8Array): Xmp {
  return new Xmp(segments(data).filter(({ marker }) => marker === 0xe1).map(({ content }) => content));
}

/** The depth map in a JPEG, or null; throws an `Error` in words for a person where there is one that can't be used. */
export function storedDepth(data: Uint8Array): Stored | null {
  const xmp = xmpOf(data);
  const content = gdepth(xmp) ?? dynamic(xmp, data);
  if (content) return { content, disparity: inverse(xmp) };
  for (const picture of listed(data)) {
    const own = xmpOf(picture);
    const kind = (own.value(AUXILIARY, "AuxiliaryImageType") ?? "").toLowerCase();
    if (kind.endsWith("disparity")) return { content: picture.slice(), disparity: (v) => v };
    if (!kind.endsWith("depth")) continue;
    const [low, high] = ["FloatMinValue", "FloatMaxValue"].map((name) => Number(own.value(AUXILIARY, name) ?? NaN));
    if (!(low >= 0 && low < high && high < Infinity)) throw new Error("its range is missing");
    // Metres; at 0 there is nothing that could be measured.
    return { content: picture.slice(), disparity: (v) => 1 / Math.max(low + v * (high - low), (high - low) / 1000) };
  }
  return null;
}

function gdepth(xmp: Xmp): Uint8Array<ArrayBuffer> | null {
  const text = xmp.value(GDEPTH, "Data");
  if (text === null) return null;
  try {
    return Uint8Array.from(atob(text.replace(/\s+/g, "")), (letter) => letter.charCodeAt(0));
  } catch {
    throw new Error("it is not base64");
  }
}

function dynamic(xmp: Xmp, data: Uint8Array): Uint8Array<ArrayBuffer> | null {
  const items = xmp.items();
  const uri = xmp.value(DYNAMIC, "DepthURI");
  const wanted = uri === null ? NAMES : [uri];
  if (!items.slice(1).some(({ name }) => wanted.includes(name))) return null;
  const files = items.slice(1);
  const whole = files.reduce((sum, { length }) => sum + length, 0);
  // The files follow the photo, or end where the file ends: cameras append trailers, programs leave bytes between.
  const end = endOfPicture(data);
  for (const start of [end + Math.max(0, items[0].padding), end, data.length - whole]) {
    let at = start;
    let found: Uint8Array | null = null;
    let right = start > 0;
    for (const { name, length, padding } of files) {
      const content = data.subarray(at, at + length);
      const wants = wanted.includes(name) && length > 0;
      const picture = (content[0] === 0xff && content[1] === 0xd8) || (content[0] === 0x89 && content[1] === 0x50);
      right &&= content.length === length && (!wants || picture);
      if (wants) found ??= content;
      at += length + Math.max(0, padding);
    }
    if (right && found) return found.slice() as Uint8Array<ArrayBuffer>;
  }
  throw new Error("it is not where the file says, so the file was cut off or changed");
}

/** Where the first picture ends; 0 where that can't be found. */
function endOfPicture(data: Uint8Array): number {
  for (let at = 2; at + 1 < data.length;) {
    const marker = data[at + 1];
    if (data[at] !== 0xff) return 0;
    if (marker === 0xff) at++;
    else if (marker === 0xd9) return at + 2;
    else if (marker === 0x01 || (marker >= 0xd0 && marker <= 0xd7)) at += 2;
    else {
      at += 2 + Math.max(2, data[at + 2] * 256 + data[at + 3]);
      if (marker !== 0xda) continue;
      const inScan = (next: number): boolean => next === 0 || next === 1 || (next >= 0xd0 && next <= 0xd7);
      for (at = data.indexOf(0xff, at); at >= 0 && inScan(data[at + 1]); at = data.indexOf(0xff, at + 2));
      if (at < 0) return 0;
    }
  }
  return 0;
}

/** The pictures behind the first one that the multi-picture index lists (CIPA DC-007). */
function listed(data: Uint8Array): Uint8Array[] {
  const index = segments(data).find(({ marker, content }) =>
    marker === 0xe2 && content[0] === 0x4d && content[1] === 0x50 && content[2] === 0x46 && content[3] === 0);
  const found: Uint8Array[] = [];
  if (!index) return found;
  const start = index.at + 4;
  const view = new DataView(data.buffer, data.byteOffset + start);
  try {
    const little = view.getUint8(0) === 0x49;
    const directory = view.getUint32(4, little);
    for (let i = 0; i < Math.min(view.getUint16(directory, little), MOST_PICTURES); i++) {
      const entry = directory + 2 + 12 * i;
      if (view.getUint16(entry, little) !== 0xb002) continue;
      const count = Math.min(Math.floor(view.getUint32(entry + 4, little) / 16), MOST_PICTURES);
      const place = view.getUint32(entry + 8, little);
      for (let k = 1; k < count; k++) {
        const [size, at] = [4, 8].map((part) => view.getUint32(place + 16 * k + part, little));
        if (size > 0 && at > 0 && start + at + size <= data.length) found.push(data.subarray(start + at, start + at + size));
      }
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return found;
}

/** v → what is affine to inverse depth, by the format that stands beside it. */
function inverse(xmp: Xmp): (v: number) => number {
  const namespace = xmp.value(DYNAMIC, "Format") === null ? GDEPTH : DYNAMIC;
  const form = (xmp.value(namespace, "Format") ?? "RangeInverse").toLowerCase();
  if (form === "rangeinverse") return (v) => 1 - v;
  if (form !== "rangelinear") throw new Error(`its format ${form.slice(0, 40)} is not known`);
  const [near, far] = ["Near", "Far"].map((name) => Number(xmp.value(namespace, name) ?? NaN));
  if (!(near > 0 && near < far && far < Infinity)) throw new Error("its range is missing");
  return (v) => 1 / (near + v * (far - near));
}
