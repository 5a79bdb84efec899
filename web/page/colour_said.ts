/** What a photo's file says of its colours, where the page and not the browser brings them to sRGB. */

import { coloursSaid, kindOf } from "./boxes.js";
import { ADOBE_RGB, codedSpace, type Space } from "./colour.js";
import { saysAdobeRgb } from "./exif.js";
import { isPng, metadataOf, pngChunks, profileInside } from "./metadata.js";

export interface Colours {
  /** Null: sRGB, or a profile that the browser applies. */
  readonly space: Space | null;
  /** Whether the browser is to leave the numbers as they are stored. */
  readonly stored: boolean;
  /** Of each colour. */
  readonly bits: number;
}

/** By nclx (HEIC, AVIF), cICP (PNG) or EXIF's R03; a profile counts before them. */
export function coloursOf(data: Uint8Array): Colours {
  if (kindOf(data)) {
    const { codes, bits } = coloursSaid(data);
    return { space: codes && codedSpace(...codes), stored: codes !== null, bits };
  }
  const bits = isPng(data) && data.length > 24 && data[24] === 16 ? 16 : 8;
  if (profileInside(data)) return { space: null, stored: false, bits };
  const coded = isPng(data) ? [...pngChunks(data)].find(([name]) => name === "cICP")?.[1] : undefined;
  if (coded?.length === 4) return { space: codedSpace(coded[0], coded[1]), stored: true, bits };
  const { exif } = metadataOf(data, []);
  const adobe = exif !== null && saysAdobeRgb(exif);
  return { space: adobe ? ADOBE_RGB : null, stored: adobe, bits };
}
