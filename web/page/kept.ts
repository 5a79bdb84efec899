/** Where and how much is kept of what the networks have made of the open photo alone. */

import { PhotoFeatures } from "../features.js";

/** As much is kept at most, in bytes: a photo of 2048×1536 pixels needs 130 MB. */
const MOST = 2 ** 28;
const MOST_ON_A_PHONE = 2 ** 26;

/** Memory of the device in GB from which it is no small phone; browsers tell at most 8. */
const ENOUGH = 8;

/** A place for what belongs to one photo. */
export function keptFeatures(): PhotoFeatures {
  const memory = (navigator as { deviceMemory?: number }).deviceMemory ?? ENOUGH;
  return new PhotoFeatures(memory < ENOUGH ? MOST_ON_A_PHONE : MOST);
}
