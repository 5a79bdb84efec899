/** `harness.json` as an exporter writes it: the constants that the effect is made from. */

/** What a variant of the networks adds to the constants. */
export interface Variant {
  readonly halo: { readonly lens_blur: number; readonly upsample: number };
  readonly depth_by_level: boolean;
  readonly finer_base: boolean;
  readonly sharp_bound: number | null;
  readonly soft_radius: number | null;
  readonly soft_bound: number | null;
}

export interface Constants {
  readonly format: number;
  readonly alignment: number;
  readonly min_size: number;
  readonly base_long_side: number;
  readonly depth_size: number;
  readonly r_max: number;
  readonly n_min: number;
  readonly epsilon: number;
  readonly aspect_tolerance: number;
  readonly subject_sigma: number;
  readonly subject_share: number;
  readonly finer_base_range: readonly [low: number, high: number];
  readonly sharp_radius: number;
  readonly blurred_radius: number;
  readonly unblurred: number;
  readonly tile: number;
  readonly variants: Readonly<Record<string, Variant>>;
}

/** The version of `harness.json` that this implementation follows. */
export const FORMAT = 1;

const NUMBERS = [
  "alignment", "min_size", "base_long_side", "depth_size", "r_max", "n_min", "epsilon", "aspect_tolerance",
  "subject_sigma", "subject_share", "sharp_radius", "blurred_radius", "unblurred", "tile",
] as const;

/** The constants in the text of a `harness.json`; throws an `Error` if it is of another version or incomplete. */
export function readConstants(text: string): Constants {
  const read = JSON.parse(text) as Partial<Constants>;
  if (read.format !== FORMAT) {
    throw new Error(`harness.json has format ${read.format}; this implementation knows format ${FORMAT}`);
  }
  const missing: string[] = NUMBERS.filter((name) => typeof read[name] !== "number");
  if (read.finer_base_range?.length !== 2) missing.push("finer_base_range");
  if (!read.variants) missing.push("variants");
  if (missing.length > 0) throw new Error(`harness.json lacks ${missing.join(", ")}: export the networks again`);
  return read as Constants;
}

/** The constants of one variant; throws an `Error` that lists the variants if there is no such one. */
export function variantOf(constants: Constants, name: string): Variant {
  const variant = constants.variants[name];
  if (!variant) {
    throw new Error(`harness.json has no variant "${name}"; it has ${Object.keys(constants.variants).join(", ")}`);
  }
  return variant;
}
