/** An EXIF block, put right for upright sRGB pixels without moving anything in it, so that a maker's note stays whole. */

const ORIENTATION = 0x0112;
const EXIF_DIRECTORY = 0x8769;
const COLOUR_SPACE = 0xa001;
const WIDTH = 0xa002;
const HEIGHT = 0xa003;
const THUMBNAIL = 0x0201;
const THUMBNAIL_BYTES = 0x0202;
const INTEROPERABILITY = 0xa005;
/** Within the interoperability directory: four letters, "R98" for sRGB and "R03" for Adobe RGB (DCF 2.0). */
const INDEX = 1;
const UNCALIBRATED = 0xffff;
const SHORT = 3;

/**
 * The block with orientation 1, the given size where it tells one, and no thumbnail of the old picture.
 *
 * `block` begins with the byte order. Null: it is broken.
 */
export function corrected(block: Uint8Array, width: number, height: number): Uint8Array<ArrayBuffer> | null {
  const out = Uint8Array.from(block);
  const view = new DataView(out.buffer);
  const order = view.byteLength < 8 ? 0 : view.getUint16(0);
  if (order !== 0x4949 && order !== 0x4d4d) return null;
  const little = order === 0x4949;
  const set = (entry: number, value: number): void => {
    if (view.getUint16(entry + 2, little) === SHORT) view.setUint16(entry + 8, value, little);
    else view.setUint32(entry + 8, value, little);
  };
  try {
    const main = view.getUint32(4, little);
    const [entries, next] = directory(view, main, little);
    const exif = entries.get(EXIF_DIRECTORY);
    const orientation = entries.get(ORIENTATION);
    if (orientation !== undefined) set(orientation, 1);
    const preview = view.getUint32(next, little);
    if (preview !== 0) {
      const [old] = directory(view, preview, little);
      const [at, bytes] = [THUMBNAIL, THUMBNAIL_BYTES].map((tag) => old.get(tag));
      if (at !== undefined && bytes !== undefined) {
        const start = view.getUint32(at + 8, little);
        out.fill(0, start, Math.min(out.length, start + view.getUint32(bytes + 8, little)));
      }
      view.setUint32(next, 0, little);
    }
    if (exif !== undefined) {
      const [about] = directory(view, view.getUint32(exif + 8, little), little);
      for (const [tag, value] of [[COLOUR_SPACE, 1], [WIDTH, width], [HEIGHT, height]] as const) {
        const entry = about.get(tag);
        if (entry !== undefined) set(entry, value);
      }
      const index = indexEntry(view, about, little);
      if (index !== undefined) out.set([0x52, 0x39, 0x38, 0], index + 8); // R98
    }
  } catch (error) {
    if (error instanceof RangeError) return null; // an offset beyond the end
    throw error;
  }
  return out;
}

/** Where the entry of the interoperability index stands. */
function indexEntry(view: DataView, about: ReadonlyMap<number, number>, little: boolean): number | undefined {
  const entry = about.get(INTEROPERABILITY);
  return entry === undefined ? undefined : directory(view, view.getUint32(entry + 8, little), little)[0].get(INDEX);
}

/** Whether the block says that the colours are those of Adobe RGB; false where it is broken. */
export function saysAdobeRgb(block: Uint8Array): boolean {
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  try {
    const little = view.getUint16(0) === 0x4949;
    const exif = directory(view, view.getUint32(4, little), little)[0].get(EXIF_DIRECTORY);
    if (exif === undefined) return false;
    const [about] = directory(view, view.getUint32(exif + 8, little), little);
    const entry = about.get(COLOUR_SPACE);
    const space = entry === undefined ? 0 : view.getUint16(entry + 8, little);
    const index = indexEntry(view, about, little);
    const isR03 = index !== undefined && view.getUint32(index + 8) >>> 8 === 0x523033;
    return space === 2 || (space === UNCALIBRATED && isR03);
  } catch (error) {
    if (error instanceof RangeError) return false;
    throw error;
  }
}

/** Tag → where its entry stands, and where the offset of the next directory stands. */
function directory(view: DataView, at: number, little: boolean): [Map<number, number>, number] {
  const count = view.getUint16(at, little);
  const entries = new Map<number, number>();
  for (let i = 0; i < count; i++) {
    const entry = at + 2 + 12 * i;
    view.getUint32(entry + 8, little); // throws beyond the end
    entries.set(view.getUint16(entry, little), entry);
  }
  return [entries, at + 2 + 12 * count];
}
