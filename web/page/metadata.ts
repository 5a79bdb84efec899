/** What a photo's file says beside its pixels: read from JPEG, PNG, WebP, AVIF and HEIC, and put into what the page saves. */

import { kindOf, said } from "./boxes.js";
import { corrected } from "./exif.js";
import { pngChunk } from "./png.js";

export interface Metadata {
  /** From its byte order on. */
  readonly exif: Uint8Array | null;
  readonly xmp: Uint8Array | null;
  /** Photoshop's block of a JPEG, which holds IPTC. */
  readonly iptc: Uint8Array | null;
}

const NONE: Metadata = { exif: null, xmp: null, iptc: null };
const EXIF_HEAD = latin("Exif\0\0");
const XMP_HEAD = latin("http://ns.adobe.com/xap/1.0/\0");
const ICC_HEAD = latin("ICC_PROFILE\0");
const IPTC_HEAD = latin("Photoshop 3.0\0");
const MOST_IN_SEGMENT = 65533;
const PNG_HEAD = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
const PNG_XMP = latin("XML:com.adobe.xmp\0\0\0\0\0");

/** Parts of a file that are not carried over, by what XMP says of them; the packet is left out with them. */
const GONE = [
  "http://ns.adobe.com/hdr-gain-map/1.0/", "http://ns.apple.com/HDRGainMap/1.0/", "http://ns.google.com/photos/1.0/",
  "http://ns.google.com/photos/dd/1.0/", "http://ns.adobe.com/xmp/note/",
];

function latin(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
}

function begins(data: Uint8Array, head: Uint8Array): boolean {
  return data.length >= head.length && head.every((byte, i) => data[i] === byte);
}

function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** The segments of a JPEG before its picture: marker and content. */
function* segments(data: Uint8Array): Generator<[number, Uint8Array]> {
  for (let at = 2; at + 4 <= data.length && data[at] === 0xff && data[at + 1] !== 0xda;) {
    const length = data[at + 2] * 256 + data[at + 3];
    yield [data[at + 1], data.subarray(at + 4, at + 2 + length)];
    at += 2 + length;
  }
}

/** The chunks of a PNG (big-endian length first) or a WebP (little-endian length second): name and content. */
function* chunks(data: Uint8Array, png: boolean): Generator<[string, Uint8Array]> {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  for (let at = png ? 8 : 12; at + 8 <= data.length;) {
    const length = view.getUint32(png ? at : at + 4, !png);
    const name = String.fromCharCode(...data.subarray(png ? at + 4 : at, png ? at + 8 : at + 4));
    yield [name, data.subarray(at + 8, at + 8 + length)];
    at += 8 + length + (png ? 4 : length % 2);
  }
}

/** The chunks of a PNG: name and content. */
export function pngChunks(data: Uint8Array): Generator<[string, Uint8Array]> {
  return chunks(data, true);
}

/** Whether a JPEG, PNG or WebP holds an ICC profile. */
export function profileInside(data: Uint8Array): boolean {
  if (isJpeg(data)) return [...segments(data)].some(([marker, content]) => marker === 0xe2 && begins(content, ICC_HEAD));
  return (isPng(data) || isWebp(data)) && [...chunks(data, isPng(data))].some(([name]) => name === "iCCP" || name === "ICCP");
}

export function isPng(data: Uint8Array): boolean {
  return begins(data, PNG_HEAD);
}

function isJpeg(data: Uint8Array): boolean {
  return data[0] === 0xff && data[1] === 0xd8;
}

function isWebp(data: Uint8Array): boolean {
  return begins(data, latin("RIFF")) && begins(data.subarray(8), latin("WEBP"));
}

/** Whether a file's first 64 bytes are those of a photo that the page reads. */
export function isReadable(head: Uint8Array): boolean {
  return isPng(head) || isJpeg(head) || isWebp(head) || kindOf(head) !== null;
}

/** The file type that a photo is saved as: its own where it can be written, else JPEG. */
export function typeToSave(data: Uint8Array): "image/jpeg" | "image/png" | "image/webp" {
  if (isPng(data)) return "image/png";
  return isWebp(data) ? "image/webp" : "image/jpeg";
}

/** The metadata of a photo's file; `notes` gets a sentence for what is not carried over. */
export function metadataOf(data: Uint8Array, notes: string[]): Metadata {
  const found: { -readonly [K in keyof Metadata]: Metadata[K] } = { ...NONE };
  if (isJpeg(data)) {
    for (const [marker, content] of segments(data)) {
      if (marker === 0xe1 && begins(content, EXIF_HEAD)) found.exif ??= content.slice(EXIF_HEAD.length);
      if (marker === 0xe1 && begins(content, XMP_HEAD)) found.xmp ??= content.slice(XMP_HEAD.length);
      if (marker === 0xed && begins(content, IPTC_HEAD)) found.iptc ??= content.slice();
    }
  } else if (isPng(data) || isWebp(data)) {
    for (const [name, content] of chunks(data, isPng(data))) {
      if (name === "eXIf") found.exif = content.slice();
      if (name === "EXIF") found.exif = content.slice(begins(content, EXIF_HEAD) ? EXIF_HEAD.length : 0);
      if (name === "XMP ") found.xmp = content.slice();
      if (name === "iTXt" && begins(content, PNG_XMP)) found.xmp = content.slice(PNG_XMP.length);
    }
  } else if (kindOf(data)) {
    const { exif, xmp } = said(data);
    found.exif = exif;
    found.xmp = xmp?.slice() ?? null;
  } else {
    notes.push("Its date, place and camera are not carried over: this page reads them from JPEG, PNG, WebP, AVIF and HEIC.");
  }
  if (found.xmp && GONE.some((name) => new TextDecoder().decode(found.xmp as Uint8Array).includes(name))) {
    found.xmp = null;
    notes.push("What belongs to the phone's own depth map, HDR or moving part is not carried over.");
  }
  return found;
}

function uprightXmp(xmp: Uint8Array): Uint8Array<ArrayBuffer> {
  const text = new TextDecoder().decode(xmp);
  return new TextEncoder().encode(
    text.replace(/(tiff:Orientation\s*=\s*["'])\d+/g, "$11").replace(/(<tiff:Orientation[^>]*>)\d+/g, "$11"),
  );
}

/** An encoded picture of upright sRGB pixels with the metadata in it; `notes` gets a sentence for what has no room. */
export function withMetadata(
  encoded: Uint8Array, metadata: Metadata, width: number, height: number, notes: string[],
): Uint8Array<ArrayBuffer> {
  const exif = metadata.exif && corrected(metadata.exif, width, height);
  if (metadata.exif && !exif) notes.push("The photo's EXIF is damaged and was left out.");
  const xmp = metadata.xmp && uprightXmp(metadata.xmp);
  if (isJpeg(encoded)) return inJpeg(encoded, exif, xmp, metadata.iptc, notes);
  if (metadata.iptc) notes.push("Its IPTC was left out: only JPEG has a place for it.");
  return isPng(encoded) ? inPng(encoded, exif, xmp) : inWebp(encoded, exif, xmp, width, height);
}

function inJpeg(
  encoded: Uint8Array, exif: Uint8Array | null, xmp: Uint8Array | null, iptc: Uint8Array | null, notes: string[],
): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [encoded.subarray(0, 2)];
  const add = (marker: number, name: string, ...content: Uint8Array[]): void => {
    const whole = joined(content);
    if (whole.length > MOST_IN_SEGMENT) notes.push(`Its ${name} is too long for a JPEG and was left out.`);
    else parts.push(Uint8Array.of(0xff, marker, (whole.length + 2) >> 8, (whole.length + 2) & 255), whole);
  };
  if (exif) add(0xe1, "EXIF", EXIF_HEAD, exif);
  if (xmp) add(0xe1, "XMP", XMP_HEAD, xmp);
  if (iptc) add(0xed, "IPTC", iptc);
  // EXIF readers want it first; the encoder's own JFIF header is not needed beside it.
  const jfif = encoded[2] === 0xff && encoded[3] === 0xe0 && exif ? 2 + 2 + encoded[4] * 256 + encoded[5] : 2;
  return joined([...parts, encoded.subarray(jfif)]);
}

function inPng(encoded: Uint8Array, exif: Uint8Array | null, xmp: Uint8Array | null): Uint8Array<ArrayBuffer> {
  const head = 8 + 25; // signature and IHDR
  const more = [...(exif ? [pngChunk("eXIf", exif)] : []), ...(xmp ? [pngChunk("iTXt", joined([PNG_XMP, xmp]))] : [])];
  return joined([encoded.subarray(0, head), ...more, encoded.subarray(head)]);
}

function inWebp(
  encoded: Uint8Array, exif: Uint8Array | null, xmp: Uint8Array | null, width: number, height: number,
): Uint8Array<ArrayBuffer> {
  if (!exif && !xmp) return Uint8Array.from(encoded);
  const own = [...chunks(encoded, false)].filter(([name]) => !["VP8X", "EXIF", "XMP "].includes(name));
  const old = [...chunks(encoded, false)].find(([name]) => name === "VP8X")?.[1];
  const head = new Uint8Array(10);
  const alpha = own.some(([name]) => name === "ALPH") || losslessWithAlpha(own);
  head[0] = ((old?.[0] ?? (alpha ? 16 : 0)) & ~12) | (exif ? 8 : 0) | (xmp ? 4 : 0);
  for (let i = 0; i < 3; i++) {
    head[4 + i] = ((width - 1) >> (8 * i)) & 255;
    head[7 + i] = ((height - 1) >> (8 * i)) & 255;
  }
  return riff([
    ["VP8X", head], ...own, ...(exif ? [["EXIF", exif] as const] : []), ...(xmp ? [["XMP ", xmp] as const] : []),
  ]);
}

/** Whether a lossless picture says that it uses alpha. */
function losslessWithAlpha(own: readonly (readonly [string, Uint8Array])[]): boolean {
  const lossless = own.find(([name]) => name === "VP8L")?.[1];
  return lossless !== undefined && (lossless[4] & 0x10) !== 0;
}

/** A WebP file of chunks. */
export function riff(all: readonly (readonly [string, Uint8Array])[]): Uint8Array<ArrayBuffer> {
  const parts = all.map(([name, content]) => {
    const out = new Uint8Array(8 + content.length + (content.length % 2));
    out.set(latin(name));
    new DataView(out.buffer).setUint32(4, content.length, true);
    out.set(content, 8);
    return out;
  });
  const body = joined([latin("WEBP"), ...parts]);
  const head = joined([latin("RIFF"), new Uint8Array(4)]);
  new DataView(head.buffer).setUint32(4, body.length, true);
  return joined([head, body]);
}

/** The chunks of a WebP file. */
export function webpChunks(data: Uint8Array): [string, Uint8Array][] {
  return [...chunks(data, false)];
}
