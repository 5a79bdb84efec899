/**
 * Runs the harness on end-to-end vectors in Node and writes the results in their layout:
 *
 *     node build/vectors.js --vectors VECTORS --artifacts ARTEFACTS --out RESULTS [--photo odd] [--tile 256] [--skips]
 *
 * `deeplens golden --end-to-end --vectors VECTORS --check RESULTS` then says whether they agree.
 */

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";

import type { Photo, Planes } from "./arrays.js";
import { readConstants, variantOf } from "./constants.js";
import { depthPicture, focusAt, type Point } from "./focus.js";
import { apertureOf, prepare, refocus, type Networks } from "./harness.js";
import { loadNetwork } from "./onnx.js";
import type { TileOptions } from "./tiles.js";

interface Stage {
  readonly name: string;
  readonly file: string;
  readonly shape: readonly number[];
}

interface Case {
  readonly name: string;
  readonly f_number: number;
  readonly focus: Point;
  readonly stages: readonly Stage[];
}

interface Vectors {
  readonly format: number;
  readonly kind: string;
  readonly variant: string;
  readonly harness: string;
  readonly stages: readonly Stage[];
  readonly cases: readonly Case[];
}

interface Manifest {
  readonly artifacts: readonly {
    readonly network: string;
    readonly variant: string;
    readonly runtime: string;
    readonly precision: string;
    readonly dynamic: boolean;
    readonly path: string;
  }[];
}

async function loadNetworks(folder: string, variant: string): Promise<Networks> {
  const manifest = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8")) as Manifest;
  const load = (network: string): ReturnType<typeof loadNetwork> => {
    const found = manifest.artifacts.find(
      (one) =>
        one.network === network && one.variant === variant && one.runtime === "onnx" &&
        one.precision === "fp32" && one.dynamic,
    );
    if (!found) throw new Error(`${folder} has no FP32 ONNX file of free size for ${variant} ${network}`);
    return loadNetwork(readFileSync(join(folder, found.path)));
  };
  return { lens_blur: await load("lens_blur"), upsample: await load("upsample") };
}

function named(stages: readonly Stage[], name: string): Stage {
  const found = stages.find((stage) => stage.name === name);
  if (!found) throw new Error(`the vectors have no stage "${name}"`);
  return found;
}

/** Rows of R, G, B as bytes, from planes of numbers from 0 to 255. */
function interleaved(planes: Planes): Uint8Array {
  const count = planes.height * planes.width;
  return Uint8Array.from({ length: 3 * count }, (_, i) => planes.data[(i % 3) * count + Math.floor(i / 3)]);
}

async function runPhoto(
  file: string, folder: string, artifacts: string, out: string, options: TileOptions,
): Promise<void> {
  const vectors = JSON.parse(readFileSync(join(folder, file), "utf8")) as Vectors;
  if (vectors.format !== 1 || vectors.kind !== "end-to-end") {
    throw new Error(`${file}: end-to-end vectors of format 1 are needed`);
  }
  const constants = readConstants(readFileSync(join(folder, vectors.harness), "utf8"));
  const variant = variantOf(constants, vectors.variant);
  const networks = await loadNetworks(artifacts, vectors.variant);

  const photoStage = named(vectors.stages, "photo");
  const mapStage = named(vectors.stages, "disparity");
  const photo: Photo = {
    height: photoStage.shape[0], width: photoStage.shape[1],
    data: new Uint8Array(readFileSync(join(folder, photoStage.file))),
  };
  const map: Planes = {
    channels: 1, height: mapStage.shape[0], width: mapStage.shape[1],
    data: new Float32Array(new Uint8Array(readFileSync(join(folder, mapStage.file))).buffer),
  };

  const writer = (stages: readonly Stage[]) => (name: string, data: Uint8Array | Float32Array): void => {
    const stage = stages.find((one) => one.name === name);
    if (stage) writeFileSync(join(out, stage.file), new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  };
  const write = writer(vectors.stages);
  const prepared = prepare(photo, map, constants);
  write("depth_picture", interleaved(depthPicture(photo, constants)));
  prepared.pictures.forEach((picture, k) => write(`picture_${k}`, picture.data));
  write("registered", prepared.registered.data);

  for (const one of vectors.cases) {
    const began = performance.now();
    const writeCase = writer(one.stages);
    const focus = focusAt(map, [one.focus]);
    const scalars = [apertureOf(one.f_number, constants), focus.disparity, prepared.levels.blurScale];
    writeCase("scalars", Float32Array.from(scalars));
    const result = await refocus(prepared, focus, one.f_number, networks, constants, variant, {
      ...options, onStage: (name, planes) => writeCase(name, planes.data),
    });
    writeCase("picture", result.data as Uint8Array);
    console.log(`${file} ${one.name}: ${((performance.now() - began) / 1000).toFixed(1)} s`);
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      vectors: { type: "string" },
      artifacts: { type: "string" },
      out: { type: "string" },
      photo: { type: "string" },
      tile: { type: "string", default: "256" },
      skips: { type: "boolean", default: false },
    },
  });
  const { vectors, artifacts, out } = values;
  if (!vectors || !artifacts || !out) throw new Error("--vectors, --artifacts and --out are needed");
  const ending = values.photo ? `_loop_${values.photo}.json` : ".json";
  const files = readdirSync(vectors).filter((name) => name.includes("_loop_") && name.endsWith(ending)).sort();
  if (files.length === 0) throw new Error(`${vectors} holds no end-to-end vectors (*_loop_*.json)`);
  mkdirSync(out, { recursive: true });
  for (const file of files) await runPhoto(file, vectors, artifacts, out, { tile: Number(values.tile), skips: values.skips });
}

main().catch((error: unknown) => {
  console.error(`error: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
});
