/** HEIC photos by libheif, which is loaded when the first one is opened, from a file of its own beside the page. */

import { zeros, type Planes } from "../arrays.js";

/** Of libheif's C functions those that are used; structures are returned at the address of the first argument. */
interface Heif {
  readonly HEAPU8: Uint8Array;
  _malloc(bytes: number): number;
  _free(at: number): void;
  _heif_context_alloc(): number;
  _heif_context_free(context: number): void;
  _heif_context_read_from_memory(error: number, context: number, at: number, bytes: number, options: number): void;
  _heif_context_get_primary_image_handle(error: number, context: number, out: number): void;
  _heif_image_handle_get_width(handle: number): number;
  _heif_image_handle_get_height(handle: number): number;
  _heif_image_handle_get_luma_bits_per_pixel(handle: number): number;
  _heif_image_handle_get_raw_color_profile_size(handle: number): number;
  _heif_image_handle_get_raw_color_profile(error: number, handle: number, out: number): void;
  _heif_image_handle_get_list_of_depth_image_IDs(handle: number, out: number, count: number): number;
  _heif_image_handle_get_depth_image_handle(error: number, handle: number, id: number, out: number): void;
  _heif_image_handle_get_depth_image_representation_info(handle: number, id: number, out: number): number;
  _heif_decode_image(error: number, handle: number, out: number, space: number, chroma: number, options: number): void;
  _heif_image_get_width(image: number, channel: number): number;
  _heif_image_get_height(image: number, channel: number): number;
  _heif_image_get_bits_per_pixel_range(image: number, channel: number): number;
  _heif_image_get_plane_readonly2(image: number, channel: number, stride: number): number;
  _heif_image_release(image: number): void;
  _heif_image_handle_release(handle: number): void;
}

const [RGB, MONOCHROME] = [1, 2];
/** 8 bits with alpha; two bytes a colour, the lower one first; one channel. */
const [INTERLEAVED_RGBA, INTERLEAVED_RRGGBB, MONO] = [11, 14, 0];
const [INTERLEAVED, Y] = [10, 0];

/** Values of the depth representation type that are affine to inverse depth, near = large. */
const DISPARITIES = [0, 1];

export interface Heic {
  readonly width: number;
  readonly height: number;
  /** Row by row, as stored: four numbers a pixel, the last alpha; three where a number has more than 8 bits. */
  readonly values: Uint8Array | Uint16Array;
  readonly channels: 3 | 4;
  /** Of a number of `values`. */
  readonly valueBits: number;
  readonly icc: Uint8Array | null;
  /** 1 × h × w as stored, near = large; null: it has none. */
  readonly depth: Planes | null;
  readonly notes: readonly string[];
}

let library: Promise<Heif> | null = null;

async function loaded(base: string): Promise<Heif> {
  const { default: make } = (await import(/* @vite-ignore */ new URL("heif/libheif-bundle.mjs", base).href)) as {
    default: () => Heif | Promise<Heif>;
  };
  return make();
}

/**
 * The photo in a HEIC file, upright; `deep`: with all bits that it has, and without alpha.
 *
 * Throws an `Error` for a person where it is broken or has too many pixels.
 */
export async function readHeic(
  data: Uint8Array, name: string, base: string, mostPixels: number, deep: boolean,
): Promise<Heic> {
  library ??= loaded(base);
  let heif: Heif;
  try {
    heif = await library;
  } catch {
    library = null;
    throw new Error(`${name} is a HEIC photo, and its decoder can't be loaded. Check the connection, then open it again.`);
  }
  const opened = new Opened(heif, data, name);
  try {
    return opened.read(mostPixels, deep);
  } finally {
    opened.close();
  }
}

class Opened {
  private readonly undo: (() => void)[] = [];
  private readonly scratch: number;
  private readonly primary: number;

  constructor(private readonly heif: Heif, data: Uint8Array, private readonly name: string) {
    this.scratch = this.room(32);
    const context = heif._heif_context_alloc();
    const copy = this.room(data.length);
    this.undo.push(() => heif._heif_context_free(context));
    heif.HEAPU8.set(data, copy);
    try {
      this.primary = this.handle((out) => {
        heif._heif_context_read_from_memory(this.scratch, context, copy, data.length, 0);
        this.check();
        heif._heif_context_get_primary_image_handle(this.scratch, context, out);
      });
    } catch (error) {
      this.close();
      throw error;
    }
  }

  close(): void {
    for (const each of this.undo.splice(0).reverse()) each();
  }

  read(mostPixels: number, deep: boolean): Heic {
    const { heif, primary, name } = this;
    const [width, height] = [heif._heif_image_handle_get_width(primary), heif._heif_image_handle_get_height(primary)];
    if (width * height > mostPixels) {
      throw new Error(
        `${name} has ${(width * height / 1e6).toFixed(0)} million pixels, and the page takes ${mostPixels / 1e6} million. ` +
          "Make it smaller, or use deeplens refocus.",
      );
    }
    const bits = heif._heif_image_handle_get_luma_bits_per_pixel(primary);
    const wide = deep && bits > 8;
    const pixels = this.pixels(wide);
    const notes: string[] = [];
    let depth: Planes | null = null;
    try {
      depth = this.depth(notes);
    } catch {
      notes.push("The depth map in the photo can't be read.");
    }
    return { ...pixels, channels: wide ? 3 : 4, valueBits: wide ? bits : 8, icc: this.icc(), depth, notes };
  }

  private pixels(wide: boolean): { width: number; height: number; values: Uint8Array | Uint16Array } {
    const image = this.decoded(this.primary, RGB, wide ? INTERLEAVED_RRGGBB : INTERLEAVED_RGBA);
    const { at, stride, rows, columns } = this.plane(image, INTERLEAVED);
    const bytes = wide ? 6 : 4;
    const out = new Uint8Array(rows * columns * bytes);
    for (let y = 0; y < rows; y++) {
      const from = at + y * stride;
      out.set(this.heif.HEAPU8.subarray(from, from + columns * bytes), y * columns * bytes);
    }
    return { width: columns, height: rows, values: wide ? new Uint16Array(out.buffer) : out };
  }

  private depth(notes: string[]): Planes | null {
    const { heif, primary } = this;
    const ids = this.room(4);
    if (heif._heif_image_handle_get_list_of_depth_image_IDs(primary, ids, 1) < 1) return null;
    const id = this.word(ids);
    const about = this.room(4);
    if (heif._heif_image_handle_get_depth_image_representation_info(primary, id, about)) {
      // A byte for the version, four flags, padding, four numbers of eight bytes, then the type.
      const kind = this.word(this.word(about) + 40);
      if (!DISPARITIES.includes(kind)) {
        notes.push(`The depth map in the photo is of kind ${kind}, which the page can't use.`);
        return null;
      }
    }
    const handle = this.handle((out) => heif._heif_image_handle_get_depth_image_handle(this.scratch, primary, id, out));
    const image = this.decoded(handle, MONOCHROME, MONO);
    const wide = heif._heif_image_get_bits_per_pixel_range(image, Y) > 8;
    const { at, stride, rows, columns } = this.plane(image, Y);
    const out = zeros(1, [rows, columns]);
    const bytes = heif.HEAPU8;
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++) {
        const from = at + y * stride + (wide ? 2 * x : x);
        out.data[y * columns + x] = wide ? bytes[from] + 256 * bytes[from + 1] : bytes[from];
      }
    }
    return out;
  }

  private icc(): Uint8Array | null {
    const { heif, primary } = this;
    const size = heif._heif_image_handle_get_raw_color_profile_size(primary);
    if (size <= 0) return null;
    const at = this.room(size);
    heif._heif_image_handle_get_raw_color_profile(this.scratch, primary, at);
    return heif.HEAPU8.slice(at, at + size);
  }

  private decoded(handle: number, space: number, chroma: number): number {
    const out = this.room(4);
    this.heif._heif_decode_image(this.scratch, handle, out, space, chroma, 0);
    this.check();
    const image = this.word(out);
    this.undo.push(() => this.heif._heif_image_release(image));
    return image;
  }

  private plane(image: number, channel: number): { at: number; stride: number; rows: number; columns: number } {
    const out = this.room(4);
    const at = this.heif._heif_image_get_plane_readonly2(image, channel, out);
    return {
      at, stride: this.word(out), rows: this.heif._heif_image_get_height(image, channel),
      columns: this.heif._heif_image_get_width(image, channel),
    };
  }

  private handle(get: (out: number) => void): number {
    const out = this.room(4);
    get(out);
    this.check();
    const handle = this.word(out);
    this.undo.push(() => this.heif._heif_image_handle_release(handle));
    return handle;
  }

  private room(bytes: number): number {
    const at = this.heif._malloc(bytes);
    if (at === 0) throw new Error("not enough memory");
    this.undo.push(() => this.heif._free(at));
    return at;
  }

  private word(at: number): number {
    const bytes = this.heif.HEAPU8;
    return new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);
  }

  private check(): void {
    if (this.word(this.scratch) !== 0) throw new Error(`${this.name} is a HEIC photo that can't be read: it is damaged.`);
  }
}
