/** A PNG that is not packed: pixels with their colour profile, in a form that the browser decodes. */

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  return crc;
});

/** The checksum of PNG. */
export function crc32(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (let i = 0; i < data.length; i++) crc = (crc >>> 8) ^ TABLE[(crc ^ data[i]) & 255];
  return ~crc >>> 0;
}

/** A chunk: its length, name, content and checksum. */
export function pngChunk(name: string, content: Uint8Array): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(content.length + 12);
  const view = new DataView(out.buffer);
  view.setUint32(0, content.length);
  for (let i = 0; i < 4; i++) out[4 + i] = name.charCodeAt(i);
  out.set(content, 8);
  view.setUint32(out.length - 4, crc32(out.subarray(4, out.length - 4)));
  return out;
}

const MOST_STORED = 65535;

/** zlib's format with the data as they are. */
function stored(data: Uint8Array): Uint8Array<ArrayBuffer> {
  const blocks = Math.max(1, Math.ceil(data.length / MOST_STORED));
  const out = new Uint8Array(data.length + 5 * blocks + 6);
  const view = new DataView(out.buffer);
  out[0] = 0x78;
  out[1] = 0x01;
  let at = 2;
  for (let i = 0; i < blocks; i++) {
    const part = data.subarray(i * MOST_STORED, (i + 1) * MOST_STORED);
    out[at] = i === blocks - 1 ? 1 : 0;
    view.setUint16(at + 1, part.length, true);
    view.setUint16(at + 3, ~part.length & 0xffff, true);
    out.set(part, at + 5);
    at += 5 + part.length;
  }
  let [low, high] = [1, 0];
  for (let i = 0; i < data.length;) {
    for (const end = Math.min(data.length, i + 3800); i < end; i++) {
      low += data[i];
      high += low;
    }
    low %= 65521;
    high %= 65521;
  }
  view.setUint32(at, high * 65536 + low);
  return out;
}

/** A PNG of 8-bit pixels with alpha, row by row, and their ICC profile. */
export function storedPng(rgba: Uint8Array, width: number, height: number, icc: Uint8Array | null): Blob {
  const head = new Uint8Array(13);
  const view = new DataView(head.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  head.set([8, 6, 0, 0, 0], 8);
  const rows = new Uint8Array(height * (4 * width + 1));
  for (let y = 0; y < height; y++) rows.set(rgba.subarray(4 * y * width, 4 * (y + 1) * width), y * (4 * width + 1) + 1);
  const parts: Uint8Array<ArrayBuffer>[] = [
    Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a), pngChunk("IHDR", head),
  ];
  if (icc) {
    const packed = stored(icc);
    const profile = new Uint8Array(3 + packed.length);
    profile[0] = 0x70; // its name: "p", zero, and the way of packing
    profile.set(packed, 3);
    parts.push(pngChunk("iCCP", profile));
  }
  parts.push(pngChunk("IDAT", stored(rows)), pngChunk("IEND", new Uint8Array()));
  return new Blob(parts, { type: "image/png" });
}
