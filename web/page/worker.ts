/** Computes the pictures in the browser, away from the page, so that the page never waits. */

import { depthPicture, estimatedDisparity } from "../focus.js";
import { variantOf, readConstants, type Constants, type Variant } from "../constants.js";
import { mapped, zeros, type Photo, type Planes } from "../arrays.js";
import {
  beginsAtBase, prepare, quickAnswer, refocus, refocusedLevels, withMap, type Level, type Networks, type Options,
  type Prepared,
} from "../harness.js";
import type { Run } from "../network.js";
import { decoded } from "./decode.js";
import { Draft } from "./draft.js";
import { Cancelled, type DepthSource, type PhotoInfo, type SavedFile, type Settings, type Way } from "./engine.js";
import { Lanes } from "./lanes.js";
import { coreCount, engineFile, loadLibrary, openNetwork, openOnGpu, unpacked } from "./library.js";
import { Maps, ownMap } from "./maps.js";
import { metadataOf, typeToSave, withMetadata, type Metadata } from "./metadata.js";
import { imageData, planesImage } from "./images.js";
import { check, fetched, modelFile, NETWORKS, readModels, type NetworkName } from "./models.js";
import type { Backend, End, Event, LoopTask, Reply, Request, Task } from "./messages.js";
import { placedLines, type Placed, type Placements } from "./placement.js";
import { selfTest } from "./selftest.js";
import { later, turn } from "./turn.js";

interface Ready {
  readonly constants: Constants;
  readonly variant: Variant;
  readonly networks: Networks & { readonly depth: Run };
  readonly lanes: number;
  /** Null: there is none. */
  readonly draft: Draft | null;
  /** The page's address. */
  readonly base: string;
  /** Of the graphics processor: what of each network runs elsewhere; empty on the processor. */
  readonly placed: Placements;
}

interface Open {
  readonly name: string;
  prepared: Prepared;
  readonly maps: Maps;
  readonly alpha: Uint8Array | null;
  readonly metadata: Metadata;
  readonly type: string;
  readonly notes: readonly string[];
  finished: { readonly key: string; readonly photo: Photo } | null;
}

type Tell = (event: Event, transfer?: Transferable[]) => void;

let ready: Ready | null = null;
let open: Open | null = null;
/** The newest request; older ones end before their next tile. */
let newest = 0;
let queue: Promise<unknown> = Promise.resolve();

/** Does some work when all that was asked before is done. */
function inLine<T>(work: () => Promise<T>): Promise<T> {
  const done = queue.then(work);
  queue = done.catch(() => undefined);
  return done;
}

async function start(base: string, backend: Backend, tell: Tell): Promise<void> {
  const models = await readModels(base);
  const graphs = backend === "webgpu" ? models.webgpu : models.networks;
  if (!graphs) throw new Error("this page was built without graphs for the graphics processor");
  const listed = NETWORKS.map((name) => graphs[name]);
  const files = [engineFile(backend), ...[models.harness, ...listed].map(modelFile)];
  const sizes = [ENGINE_BYTES[backend], models.harness.bytes, ...listed.map(({ bytes }) => bytes)];
  const [packed, harness, ...data] = await fetched(base, files, sizes, (done, whole) =>
    tell({ kind: "progress", done, whole }));
  await Promise.all(listed.map((one, i) => check(data[i], one)));
  const engine = await unpacked(packed);
  const cores = coreCount();
  const library = await loadLibrary(base, backend, engine, self.crossOriginIsolated ? Math.min(cores, 4) : 1);
  const opened = {} as Record<NetworkName, Run>;
  const inLanes = backend === "wasm" && cores > 1;
  const placed: Record<string, Placed | null> = {};
  let lanes: Lanes | null = null;
  for (const name of NETWORKS) {
    const graph = data[NETWORKS.indexOf(name)];
    if (backend === "webgpu") {
      [opened[name], placed[name]] = await openOnGpu(library, graph);
    } else if (name === "upsample" && inLanes) {
      lanes = new Lanes(Math.min(cores, 4), { base, engine, graph });
      opened[name] = lanes.run;
    } else {
      opened[name] = await openNetwork(library, graph, backend);
    }
  }
  const constants = readConstants(new TextDecoder().decode(harness));
  const draft = backend === "wasm" && models.draft
    ? new Draft(base, models.draft, (graph) => inLine(async () => warmed(await openNetwork(library, graph, "wasm"))))
    : null;
  ready = {
    constants, variant: variantOf(constants, models.variant), networks: opened, lanes: lanes?.count ?? 1, base, placed,
    draft,
  };
}

/** A lens blur that has run once on the base of the open photo. */
async function warmed(lensBlur: Run): Promise<Run> {
  const picture = open?.prepared.pictures[0];
  if (picture) await lensBlur({ picture, signed_depth: zeros(1, [picture.height, picture.width]) });
  return lensBlur;
}

/** About how many bytes the packed engines have: only for the progress bar. */
const ENGINE_BYTES: Record<Backend, number> = { wasm: 3.7e6, webgpu: 6.6e6 };

function isReady(): Ready {
  if (!ready) throw new Error("the networks are not loaded yet");
  return ready;
}

function isOpen(): Open {
  if (!open) throw new Error("no photo is open");
  return open;
}

async function openPhoto(file: Blob, name: string): Promise<PhotoInfo> {
  const { constants, networks, base } = isReady();
  const data = new Uint8Array(await file.arrayBuffer());
  const { photo, alpha, picture, depth, notes: told } = await decoded(file, data, name, base);
  const notes = [...told];
  const metadata = metadataOf(data, notes);
  const own = ownMap(depth, photo, constants, notes);
  const maps = new Maps(own, () => estimatedDisparity(photo, networks.depth, constants));
  const prepared = prepare(photo, await maps.from(own ? "embedded" : "predicted"), constants);
  open = { name, prepared, maps, alpha, metadata, type: typeToSave(data), notes, finished: null };
  const levels = prepared.levels.n + 1;
  return { name, width: photo.width, height: photo.height, levels, embedded: own !== null, notes, picture };
}

/** Takes depth from `source` from now on. */
async function depthFrom(source: DepthSource): Promise<Planes> {
  const photo = isOpen();
  const map = await photo.maps.from(source);
  if (map !== photo.prepared.map) {
    photo.prepared = withMap(photo.prepared, map, isReady().constants);
    photo.finished = null;
  }
  return map;
}

/** Lets newer messages in; throws `Cancelled` if one of them made this request old. */
async function stillWanted(id: number): Promise<void> {
  await turn();
  if (id !== newest) throw new Cancelled();
}

function options(id: number, more: Options = {}): Options {
  const { constants, lanes, placed } = isReady();
  const grid = Object.keys(placed).length > 0; // a graphics processor gets ready for each new size
  const ahead = lanes > 1 ? lanes : 0;
  return { tile: constants.tile, lanes, ahead, grid, skips: true, beforeTile: () => stillWanted(id), ...more };
}

function imageOf(level: Level): ImageData {
  return "photo" in level ? imageData(level.photo, null) : planesImage(level.blurred);
}

async function tellPicture(
  tell: Tell, image: ImageData, covered: readonly [number, number], level: number, draft = false,
): Promise<void> {
  const picture = await createImageBitmap(image);
  tell({ kind: "picture", picture, covered, level, draft }, [picture]);
}

/** Width and height of a level, in its pixels, that show the photo: not rounded, so that levels lie on one another. */
function coveredOf(prepared: Prepared, level: number): [number, number] {
  const scale = 2 ** (prepared.levels.n - level);
  return [prepared.photo.width / scale, prepared.photo.height / scale];
}

async function quick(settings: Settings, way: Way, tell: Tell, id: number): Promise<void> {
  const { constants, variant, networks, draft } = isReady();
  const { prepared } = isOpen();
  if (way === "half") {
    const planes = await quickAnswer(prepared, settings.focus, settings.fNumber, networks.lens_blur, constants);
    await tellPicture(tell, planesImage(planes), coveredOf(prepared, -1), -1);
    return;
  }
  const rough = way === "draft" ? draft?.run : null;
  const levels = refocusedLevels(
    prepared, settings.focus, settings.fNumber, rough ? { ...networks, lens_blur: rough } : networks,
    constants, variant, options(id, { fromBase: true }),
  );
  const first = await levels.next();
  if (!first.done) await tellPicture(tell, imageOf(first.value), coveredOf(prepared, 0), 0, !!rough);
}

function keyOf(settings: Settings): string {
  return JSON.stringify([settings.focus.disparity, settings.focus.range, settings.fNumber]);
}

async function refine(settings: Settings, tell: Tell, id: number): Promise<Photo> {
  const { constants, variant, networks } = isReady();
  const photo = isOpen();
  const { prepared } = photo;
  const key = keyOf(settings);
  const { n } = prepared.levels;
  if (photo.finished?.key !== key) {
    const areas = prepared.levels.padded.map(([height, width]) => height * width);
    const whole = areas.reduce((a, b) => a + b, 0);
    let done = 0;
    // With little blur the loop begins at level 1, which takes long: half the base answers first.
    if (n > 0 && !beginsAtBase(prepared, settings.focus, settings.fNumber, constants, variant)) {
      await quick(settings, "half", tell, id);
    }
    const levels = refocusedLevels(
      prepared, settings.focus, settings.fNumber, networks, constants, variant, options(id),
    );
    let told = Promise.resolve();
    for await (const made of levels) {
      done += areas[made.level];
      tell({ kind: "progress", done, whole });
      if ("photo" in made) photo.finished = { key, photo: made.photo };
      // Shown while the next level is at work.
      else told = later(() => tellPicture(tell, imageOf(made), coveredOf(prepared, made.level), made.level));
    }
    await told;
  }
  const finished = (photo.finished as NonNullable<Open["finished"]>).photo;
  await tellPicture(tell, imageData(finished, photo.alpha), [finished.width, finished.height], n);
  return finished;
}

async function frames(all: readonly Settings[], side: number, tell: Tell, id: number): Promise<void> {
  const { constants, variant, networks } = isReady();
  const { prepared } = isOpen();
  const { photo, levels: { n } } = prepared;
  let last = 0;
  while (last < n && Math.max(photo.width, photo.height) / 2 ** (n - last - 1) <= side) last++;
  const size = coveredOf(prepared, last).map((length) => Math.max(2, 2 * Math.floor(length / 2)));
  for (const settings of all) {
    const levels = refocusedLevels(
      prepared, settings.focus, settings.fNumber, networks, constants, variant, options(id),
    );
    for await (const made of levels) {
      if (made.level < last) continue;
      const picture = await createImageBitmap(imageOf(made), 0, 0, size[0], size[1]);
      tell({ kind: "picture", picture, covered: [size[0], size[1]], level: made.level, draft: false }, [picture]);
      break;
    }
  }
}

async function result(settings: Settings, tell: Tell, id: number): Promise<SavedFile> {
  const finished = await refine(settings, tell, id);
  const { name, type, metadata, alpha } = isOpen();
  const canvas = new OffscreenCanvas(finished.width, finished.height);
  const context = canvas.getContext("2d") as OffscreenCanvasRenderingContext2D;
  context.putImageData(imageData(finished, type === "image/jpeg" ? null : alpha), 0, 0);
  const blob = await canvas.convertToBlob({ type, quality: 0.95 });
  const notes: string[] = [];
  const encoded = new Uint8Array(await blob.arrayBuffer());
  const data = withMetadata(encoded, metadata, finished.width, finished.height, notes);
  const stem = name.replace(/\.[^.]*$/, "") || "photo";
  const suffix = { "image/jpeg": "jpg", "image/png": "png", "image/webp": "webp" }[blob.type] ?? "png";
  return { blob: new Blob([data], { type: blob.type }), name: `${stem}_refocused.${suffix}`, notes };
}

async function loop(task: LoopTask, tell: Tell): Promise<Uint8Array> {
  const { constants, variant, networks, lanes } = isReady();
  const prepared = prepare(task.photo, task.map, constants);
  const picture = await refocus(
    prepared, task.settings.focus, task.settings.fNumber, networks, constants, variant, {
      tile: task.tile, lanes, fromBase: true,
      onOutput: (level, network, planes) => tell({ kind: "planes", name: `${level} ${network}`, planes }),
    },
  );
  return picture.data as Uint8Array;
}

async function work(task: Exclude<Task, { readonly do: "draft" }>, id: number, tell: Tell): Promise<End> {
  switch (task.do) {
    case "start":
      await start(task.base, task.backend, tell);
      return { kind: "done", value: isReady().placed };
    case "open":
      return { kind: "done", value: await openPhoto(task.file, task.name) };
    case "disparity":
      return { kind: "done", value: await depthFrom(task.source) };
    case "quick":
      await quick(task.settings, task.way, tell, id);
      return { kind: "done" };
    case "refine":
      await refine(task.settings, tell, id);
      return { kind: "done" };
    case "frames":
      await frames(task.all, task.side, tell, id);
      return { kind: "done" };
    case "result":
      return { kind: "done", value: await result(task.settings, tell, id) };
    case "test": {
      const { constants, variant, networks, placed, draft } = isReady();
      for (const line of placedLines(placed)) tell({ kind: "line", line });
      const { run } = draft ?? {};
      const rough = run ? { draft: run } : {};
      await selfTest(task.base, { ...networks, ...rough }, constants, variant, (line) => tell({ kind: "line", line }));
      return { kind: "done" };
    }
    case "network": {
      const { networks, draft } = isReady();
      const network = task.network === "draft" ? draft?.run : networks[task.network as NetworkName];
      if (!network) throw new Error(`this page has no network "${task.network}"`);
      return { kind: "done", value: await network(task.inputs) };
    }
    case "loop":
      return { kind: "done", value: await loop(task.loop, tell) };
    case "depth picture":
      return { kind: "done", value: mapped(depthPicture(task.photo, isReady().constants), (value) => value / 255) };
  }
}

self.onmessage = ({ data: request }: MessageEvent<Request | { readonly do: "cancel" }>): void => {
  if (request.do === "cancel") {
    newest = -1;
    return;
  }
  const { id } = request;
  const reply = (message: Event | End, transfer: Transferable[] = []): void =>
    postMessage({ ...message, id } satisfies Reply, { transfer });
  const failed = (error: unknown): void =>
    reply({ kind: "error", message: error instanceof Error ? error.message : String(error) });
  if (request.do === "draft") { // which ends nothing
    (ready?.draft?.load() ?? Promise.resolve()).then(() => reply({ kind: "done" }), failed);
    return;
  }
  newest = id;
  void inLine(async () => {
    // Of drags that wait in line only the newest is answered.
    if (request.do === "quick" && id !== newest) return reply({ kind: "cancelled" });
    try {
      reply(await work(request, id, reply));
    } catch (error) {
      if (error instanceof Cancelled) return reply({ kind: "cancelled" });
      failed(error);
    }
  });
};
