/**
 * `?drive`: what the runtime `web` of the Python package drives. It gives tasks to the same worker as the page, and
 * fetches and posts the arrays at `drive/` of the server that shows the page.
 */

import type { Planes } from "../arrays.js";
import type { Way } from "./engine.js";
import { LocalEngine } from "./local.js";
import type { Backend, LoopTask } from "./messages.js";
import type { Placements } from "./placement.js";

interface Listed {
  readonly file: string;
  readonly shape: readonly number[];
}

async function bytes(file: string): Promise<ArrayBuffer> {
  return (await fetch(`drive/${file}`)).arrayBuffer();
}

async function planes({ file, shape }: Listed): Promise<Planes> {
  const [channels, height, width] = [1, 1, ...shape].slice(-3);
  return { channels, height, width, data: new Float32Array(await bytes(file)) };
}

async function give(file: string, data: ArrayBufferView<ArrayBuffer>): Promise<void> {
  await fetch(`drive/${file}`, { method: "POST", body: data });
}

let engine: LocalEngine;

const tasks = {
  async start(backend: Backend): Promise<{ isolated: boolean; placed: Placements }> {
    engine = new LocalEngine(backend);
    await engine.start(() => undefined);
    return { isolated: crossOriginIsolated, placed: engine.placed };
  },

  /** Loads the lens blur in INT8, which `network` runs as "draft". */
  draft(): Promise<void> {
    return engine.draft();
  },

  /** One network: its inputs by name; posts its output, and returns its shape and how long it took. */
  async network(network: string, inputs: Record<string, Listed>, out: string): Promise<{ shape: number[]; ms: number }> {
    const given = Object.fromEntries(
      await Promise.all(Object.entries(inputs).map(async ([name, one]) => [name, await planes(one)] as const)),
    );
    const began = performance.now();
    const made = await engine.ask<Planes>({ do: "network", network, inputs: given });
    const ms = performance.now() - began;
    await give(out, made.data as Float32Array<ArrayBuffer>);
    return { shape: [1, made.channels, made.height, made.width], ms };
  },

  /**
   * Opens a photo's file as a person does; posts its disparity as `out` and its pixels with alpha as `shown`, and
   * returns its size and what is told of it.
   */
  async open(
    file: string, name: string, out: string, shown: string,
  ): Promise<{ shape: number[]; size: number[]; embedded: boolean; notes: readonly string[] }> {
    const info = await engine.open(new Blob([await bytes(file)]), name);
    const map = await engine.disparity(info.embedded ? "embedded" : "predicted");
    await give(out, map.data as Float32Array<ArrayBuffer>);
    const context = new OffscreenCanvas(info.width, info.height).getContext("2d") as OffscreenCanvasRenderingContext2D;
    context.drawImage(info.picture, 0, 0);
    const { data } = context.getImageData(0, 0, info.width, info.height);
    await give(shown, new Uint8Array(data.buffer));
    return { shape: [map.height, map.width], size: [info.height, info.width], embedded: info.embedded, notes: info.notes };
  },

  /** The answer to a drag over the open photo; posts its pixels, and returns how it was made. */
  async drag(
    settings: LoopTask["settings"], way: Way, out: string,
  ): Promise<{ shape: number[]; level: number; draft: boolean }> {
    const { picture, level, draft } = await engine.quick(settings, way);
    const { width, height } = picture;
    const context = new OffscreenCanvas(width, height).getContext("2d") as OffscreenCanvasRenderingContext2D;
    context.drawImage(picture, 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    await give(out, new Uint8Array(data.buffer));
    return { shape: [height, width, 4], level, draft };
  },

  /** The open photo in its full size, as it is saved; posted as `out`. */
  async save(settings: LoopTask["settings"], out: string): Promise<string> {
    const { blob, name } = await engine.result(settings, () => undefined);
    await give(out, new Uint8Array(await blob.arrayBuffer()));
    return name;
  },

  /** What the depth network gets of a photo. */
  async depthPicture(photo: Listed, out: string): Promise<number[]> {
    const [height, width] = photo.shape;
    const data = new Uint8Array(await bytes(photo.file));
    const made = await engine.ask<Planes>({ do: "depth picture", photo: { height, width, data } });
    await give(out, made.data as Float32Array<ArrayBuffer>);
    return [1, made.channels, made.height, made.width];
  },

  /** The loop; posts each network's output as `out`_LEVEL_NETWORK, and the picture as `out`. */
  async loop(
    photo: Listed, map: Listed, settings: LoopTask["settings"], tile: number, out: string,
  ): Promise<{ level: number; network: string; shape: number[]; file: string }[]> {
    const [height, width] = photo.shape;
    const data = new Uint8Array(await bytes(photo.file));
    const listed: { level: number; network: string; shape: number[]; file: string }[] = [];
    const posts: Promise<void>[] = [];
    const loop = { photo: { height, width, data }, map: await planes(map), settings, tile };
    const picture = await engine.ask<Uint8Array<ArrayBuffer>>({ do: "loop", loop }, (event) => {
      if (event.kind !== "planes") return;
      const [level, network] = event.name.split(" ");
      const file = `${out}_${level}_${network}`;
      const { channels, height: rows, width: columns } = event.planes;
      listed.push({ level: Number(level), network, shape: [1, channels, rows, columns], file });
      posts.push(give(file, event.planes.data as Float32Array<ArrayBuffer>));
    });
    await Promise.all([...posts, give(out, picture)]);
    return listed;
  },
};

Object.assign(globalThis, { deeplens: tasks });
document.documentElement.dataset["drive"] = "ready";
