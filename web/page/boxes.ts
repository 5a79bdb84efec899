/** The items of an AVIF or HEIC file (ISO/IEC 14496-12, 23008-12): its metadata, colours, and whether it holds depth. */

interface Item {
  readonly type: string;
  readonly content: string;
}

/** What an AVIF or HEIC file says of the colours of its photo. */
export interface SaidColours {
  /** Primaries and transfer function as codes of ITU-T H.273; null: not said, or there is an ICC profile. */
  readonly codes: readonly [primaries: number, transfer: number] | null;
  /** Of each colour; 8 where it is not told. */
  readonly bits: number;
}

/** What an AVIF or HEIC file says beside its pixels; `exif` begins with the byte order. */
export interface Said {
  readonly exif: Uint8Array | null;
  readonly xmp: Uint8Array | null;
  readonly depth: boolean;
}

const DEPTH = ["urn:mpeg:hevc:2015:auxid:2", "urn:mpeg:mpegB:cicp:systems:auxiliary:depth"];

/** Items whose places are looked at; a file of a camera has some hundred. */
const MOST_ITEMS = 4096;

const HEIC = new Set(["heic", "heix", "heim", "heis", "hevc", "hevx"]);
const AVIF = new Set(["avif", "avis"]);

function latin(data: Uint8Array): string {
  return Array.from(data, (byte) => String.fromCharCode(byte)).join("");
}

/** Which of the two a file is, by the brands at its beginning; null: neither. */
export function kindOf(data: Uint8Array): "heic" | "avif" | null {
  if (data.length < 12 || latin(data.subarray(4, 8)) !== "ftyp") return null;
  const end = Math.min(data.length, 64, new DataView(data.buffer, data.byteOffset).getUint32(0));
  const brands = [latin(data.subarray(8, 12))];
  for (let at = 16; at + 4 <= end; at += 4) brands.push(latin(data.subarray(at, at + 4)));
  const general = brands[0] === "mif1" || brands[0] === "msf1";
  const named = general ? brands : brands.slice(0, 1);
  if (named.some((brand) => HEIC.has(brand))) return "heic";
  return named.some((brand) => AVIF.has(brand)) ? "avif" : null;
}

/** Reads big-endian numbers one after the other; throws a RangeError beyond the end. */
class Reader {
  private readonly view: DataView;
  at: number;

  constructor(readonly data: Uint8Array, at = 0) {
    this.view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    this.at = at;
  }

  number(bytes: number): number {
    let value = 0;
    for (let i = 0; i < bytes; i++) value = value * 256 + this.view.getUint8(this.at++);
    return value;
  }

  /** Text up to a zero byte. */
  text(): string {
    const from = this.at;
    while (this.number(1) !== 0);
    return latin(this.data.subarray(from, this.at - 1));
  }
}

function* boxes(data: Uint8Array, from = 0): Generator<[string, Uint8Array]> {
  for (let at = from; at + 8 <= data.length;) {
    const reader = new Reader(data, at);
    let size = reader.number(4);
    const name = latin(data.subarray(at + 4, at + 8));
    reader.at += 4;
    if (size === 1) size = reader.number(8);
    if (size === 0) size = data.length - at;
    if (size < reader.at - at) return;
    yield [name, data.subarray(reader.at, at + size)];
    at += size;
  }
}

function items(info: Uint8Array): Map<number, Item> {
  const version = info[0];
  const head = new Reader(info, 4);
  head.number(version === 0 ? 2 : 4);
  const found = new Map<number, Item>();
  for (const [name, entry] of boxes(info, head.at)) {
    if (name !== "infe" || entry[0] < 2 || found.size >= MOST_ITEMS) continue;
    const reader = new Reader(entry, 4);
    const id = reader.number(entry[0] === 2 ? 2 : 4);
    reader.number(2);
    const type = latin(entry.subarray(reader.at, reader.at + 4));
    reader.at += 4;
    reader.text(); // its name
    found.set(id, { type, content: type === "mime" ? reader.text() : "" });
  }
  return found;
}

/** The bytes of an item. */
function contents(location: Uint8Array, file: Uint8Array, own: Uint8Array): Map<number, Uint8Array> {
  const version = location[0];
  const reader = new Reader(location, 4);
  const sizes = reader.number(2);
  const [offset, length, base, index] = [12, 8, 4, 0].map((shift) => (sizes >> shift) & 15);
  const count = reader.number(version < 2 ? 2 : 4);
  const found = new Map<number, Uint8Array>();
  for (let i = 0; i < Math.min(count, MOST_ITEMS); i++) {
    const id = reader.number(version < 2 ? 2 : 4);
    const inBox = version > 0 && (reader.number(2) & 15) === 1;
    reader.number(2); // another file
    const start = reader.number(base);
    const extents = reader.number(2);
    const parts: Uint8Array[] = [];
    for (let k = 0; k < extents; k++) {
      if (version > 0) reader.number(index);
      const from = start + reader.number(offset);
      parts.push((inBox ? own : file).subarray(from, from + reader.number(length)));
    }
    const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
    found.set(id, whole);
  }
  return found;
}

/** Name and content of the properties of the first picture. */
function properties(meta: Map<string, Uint8Array>): [string, Uint8Array][] {
  const [item, known] = [meta.get("pitm"), new Map(boxes(meta.get("iprp") ?? new Uint8Array()))];
  const links = known.get("ipma");
  if (!item || !links) return [];
  const primary = new Reader(item, 4).number(item[0] === 0 ? 2 : 4);
  const all = [...boxes(known.get("ipco") ?? new Uint8Array())];
  const reader = new Reader(links, 4);
  const count = reader.number(4);
  const size = links[3] & 1 ? 2 : 1; // bytes of an index, whose first bit says whether it must be understood
  for (let i = 0; i < Math.min(count, MOST_ITEMS); i++) {
    const id = reader.number(links[0] === 0 ? 2 : 4);
    const indices = Array.from({ length: reader.number(1) }, () => reader.number(size) & (size === 2 ? 0x7fff : 0x7f));
    if (id === primary) return indices.flatMap((index) => (all[index - 1] ? [all[index - 1]] : []));
  }
  return [];
}

/** What the file says of its colours; as little as can be where it is broken. */
export function coloursSaid(file: Uint8Array): SaidColours {
  let codes: SaidColours["codes"] = null;
  let bits = 8;
  let profile = false;
  try {
    const meta = [...boxes(file)].find(([name]) => name === "meta")?.[1];
    for (const [name, content] of meta ? properties(new Map(boxes(meta, 4))) : []) {
      const kind = name === "colr" ? latin(content.subarray(0, 4)) : "";
      if (kind === "prof" || kind === "rICC") profile = true;
      if (kind === "nclx" && content.length >= 8) codes ??= [new Reader(content, 4).number(2), new Reader(content, 6).number(2)];
      if (name === "av1C" && content.length > 2 && content[2] & 0x40) bits = content[2] & 0x20 ? 12 : 10;
      if (name === "hvcC" && content.length > 17) bits = Math.max(bits, 8 + (content[17] & 7));
      if (name === "pixi" && content.length > 5) bits = Math.max(bits, content[5]);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return { codes: profile ? null : codes, bits };
}

/** What the file says; all null where it is broken. */
export function said(file: Uint8Array): Said {
  let exif: Uint8Array | null = null;
  let xmp: Uint8Array | null = null;
  let depth = false;
  try {
    const meta = [...boxes(file)].find(([name]) => name === "meta")?.[1];
    if (!meta) return { exif, xmp, depth };
    const inside = new Map(boxes(meta, 4));
    const properties = latin(inside.get("iprp") ?? new Uint8Array());
    depth = DEPTH.some((name) => properties.includes(name));
    const [info, location] = [inside.get("iinf"), inside.get("iloc")];
    if (!info || !location) return { exif, xmp, depth };
    const bytes = contents(location, file, inside.get("idat") ?? new Uint8Array());
    for (const [id, { type, content }] of items(info)) {
      const data = bytes.get(id);
      if (!data) continue;
      if (type === "Exif" && data.length > 4) exif ??= data.slice(4 + new Reader(data).number(4));
      if (type === "mime" && content === "application/rdf+xml") xmp ??= data;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return { exif: exif?.length ? exif : null, xmp, depth };
}
