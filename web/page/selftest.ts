/** Golden vectors on this device: see `deeplens.parity_tests.web_vectors`, which makes them. */

import type { Planes, Photo } from "../arrays.js";
import type { Constants, Variant } from "../constants.js";
import { focusAt, type Point } from "../focus.js";
import { prepare, refocus, type Networks } from "../harness.js";
import type { Run } from "../network.js";
import type { TestLine } from "./messages.js";

interface Stored {
  readonly offset: number;
  readonly dtype: "float32" | "uint8";
  readonly shape: readonly number[];
}

interface NetworkTest {
  readonly name: string;
  readonly network: "depth" | "lens_blur" | "upsample";
  readonly inputs: Readonly<Record<string, Stored>>;
  readonly output: Stored;
  readonly allowed: number;
}

interface LoopTest {
  readonly name: string;
  readonly photo: Stored;
  readonly disparity: Stored;
  readonly focus: Point;
  readonly f_number: number;
  readonly picture: Stored;
  readonly allowed: number;
}

interface Tests {
  readonly format: number;
  readonly networks: readonly NetworkTest[];
  readonly loops: readonly LoopTest[];
}

/** Of values in [0, 1]: 40 dB, which INT8 has to reach anywhere. */
const DRAFT_ALLOWED = 0.01;

export async function selfTest(
  base: string, networks: Networks & { readonly depth: Run; readonly draft?: Run }, constants: Constants, variant: Variant,
  tell: (line: TestLine) => void,
): Promise<void> {
  const get = async (file: string): Promise<Response> => {
    const response = await fetch(new URL(`models/${file}`, base));
    if (!response.ok) throw new Error(`models/${file} is missing: build the page again`);
    return response;
  };
  const tests = (await (await get("selftest.json")).json()) as Tests;
  const data = await (await get("selftest.bin")).arrayBuffer();
  const values = ({ offset, dtype, shape }: Stored): Float32Array => {
    const count = shape.reduce((a, b) => a * b, 1);
    // Bytes stand for values in [0, 1].
    if (dtype === "uint8") return Float32Array.from(new Uint8Array(data, offset, count), (byte) => byte / 255);
    return new Float32Array(data, offset, count);
  };
  const planes = (stored: Stored): Planes => {
    const [channels, height, width] = stored.shape.slice(-3);
    return { channels, height, width, data: values(stored) };
  };
  for (const test of tests.networks) {
    const inputs = Object.fromEntries(Object.entries(test.inputs).map(([name, stored]) => [name, planes(stored)]));
    const began = performance.now();
    const found = await networks[test.network](inputs);
    const milliseconds = performance.now() - began;
    const due = values(test.output);
    tell({ name: test.name, largest: largest(found.data, due, 1), allowed: test.allowed, milliseconds });
    if (test.network === "lens_blur" && networks.draft) tell(await draftLine(networks.draft, inputs, due));
  }
  for (const test of tests.loops) {
    const [height, width] = test.photo.shape;
    const photo: Photo = { height, width, data: new Uint8Array(data, test.photo.offset, 3 * height * width) };
    const [rows, columns] = test.disparity.shape;
    const map: Planes = { channels: 1, height: rows, width: columns, data: values(test.disparity) };
    const began = performance.now();
    const result = await refocus(
      prepare(photo, map, constants), focusAt(map, [test.focus]), test.f_number, networks, constants, variant,
      { tile: constants.tile },
    );
    const milliseconds = performance.now() - began;
    const due = new Uint8Array(data, test.picture.offset, result.data.length);
    tell({ name: test.name, largest: largest(result.data, due, 255), allowed: test.allowed, milliseconds });
  }
}

/** How far INT8 is from the golden vector, as an average over all pixels: single ones may be off by more. */
async function draftLine(draft: Run, inputs: Record<string, Planes>, due: Float32Array): Promise<TestLine> {
  const began = performance.now();
  const { data } = await draft(inputs);
  const milliseconds = performance.now() - began;
  const sum = data.reduce((all, value, i) => all + (value - due[i]) ** 2, 0);
  const off = data.length === due.length ? Math.sqrt(sum / due.length) : Infinity;
  const decibels = (share: number): string => `${(-20 * Math.log10(share)).toFixed(1)} dB`;
  return {
    name: "lens blur in INT8, for drags", largest: off, allowed: DRAFT_ALLOWED, milliseconds,
    told: decibels(off), toldAllowed: decibels(DRAFT_ALLOWED),
  };
}

/** The largest difference, divided by `unit`; infinite if there is a value that is not a number. */
function largest(found: ArrayLike<number>, due: ArrayLike<number>, unit: number): number {
  if (found.length !== due.length) return Infinity;
  let most = 0;
  for (let i = 0; i < due.length; i++) {
    const off = Math.abs(found[i] - due[i]);
    if (!(off <= most)) most = off;
    if (Number.isNaN(off)) return Infinity;
  }
  return most / unit;
}
