/** A machine with `deeplens studio` as an engine. Every answer comes over HTTP from the page's own origin. */

import type { Planes } from "../arrays.js";
import {
  Cancelled, type Answer, type DepthSource, type Engine, type PhotoInfo, type Progress, type SavedFile, type Settings,
} from "./engine.js";
import { isReadable } from "./metadata.js";

/** What the machine says of itself. */
export interface About {
  readonly name: string;
  readonly version: string;
  readonly runtime: string;
  readonly runtimes: readonly string[];
  readonly limits: { readonly bytes: number; readonly photos: number; readonly pixels: number };
  readonly photos: readonly { readonly photo: string; readonly name: string }[];
}

interface Given {
  readonly photo: string;
  readonly name: string;
  readonly width: number;
  readonly height: number;
  readonly levels: number;
  readonly embedded?: boolean;
  readonly notes?: readonly string[];
}

const GUARD = { "X-DeepLens": "1" };

/** The machine behind the page, or null on a static host. */
export async function findMachine(): Promise<About | null> {
  try {
    const response = await fetch("api/about");
    if (!response.ok || !(response.headers.get("Content-Type") ?? "").includes("json")) return null;
    const about = (await response.json()) as About;
    return about.name === "deeplens" ? about : null;
  } catch {
    return null;
  }
}

/** Throws an `Error` for a person unless the machine answered well. */
async function asked(address: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(address, { ...init, headers: { ...GUARD, ...init.headers } });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw new Cancelled();
    throw new Error("The machine does not answer any more. Start deeplens studio again, or choose This browser.");
  }
  if (response.ok) return response;
  if (response.status === 409) throw new Cancelled();
  const said = (await response.json().catch(() => ({}))) as { error?: string };
  throw new Error(said.error ?? `The machine answered ${response.status}.`);
}

export class MachineEngine implements Engine {
  readonly name: string;
  private photo: Given | null = null;
  private running: AbortController | null = null;
  private depth: DepthSource = "predicted";
  private depthAsked: object = {};
  runtime: string;

  constructor(readonly about: About) {
    this.name = "this machine";
    this.runtime = about.runtime;
  }

  async start(): Promise<void> {
    // It runs already.
  }

  async open(file: Blob, name: string): Promise<PhotoInfo> {
    const { limits } = this.about;
    if (file.size > limits.bytes) {
      throw new Error(
        `${name} has ${(file.size / 1e6).toFixed(0)} MB, and the machine takes ${(limits.bytes / 1e6).toFixed(0)} MB. ` +
          "Use a smaller photo.",
      );
    }
    const before = this.photo;
    const response = await asked("api/photos", {
      method: "POST", body: file, headers: { "X-Name": encodeURIComponent(name) },
    });
    const info = await this.opened((await response.json()) as Given);
    await this.forget(before); // only now: where the new one can't be opened, the old one stays open
    return info;
  }

  /** A photo that was named when the machine was started. */
  async openGiven(id: string): Promise<PhotoInfo> {
    const response = await asked(`api/photos/${encodeURIComponent(id)}`); // reads it, where it was not read yet
    return this.opened((await response.json()) as Given);
  }

  private async opened(given: Given): Promise<PhotoInfo> {
    this.photo = given;
    const { name, width, height } = given;
    const picture = await this.picture(Math.max(width, height));
    return {
      name, width, height, levels: given.levels ?? levelsOf(width, height), embedded: given.embedded ?? false,
      notes: given.notes ?? [], picture,
    };
  }

  private get address(): string {
    if (!this.photo) throw new Error("no photo is open");
    return `api/photos/${encodeURIComponent(this.photo.photo)}`;
  }

  private async picture(side: number): Promise<ImageBitmap> {
    const response = await asked(`${this.address}/picture?side=${side}`);
    return createImageBitmap(await response.blob());
  }

  /** The open photo as a file: its own, or where browsers can't read that, a JPEG of what it shows. */
  async file(): Promise<{ readonly file: Blob; readonly name: string } | null> {
    if (!this.photo) return null;
    const { name, width, height } = this.photo;
    const own = await (await asked(`${this.address}/file`)).blob();
    if (isReadable(new Uint8Array(await own.slice(0, 64).arrayBuffer()))) return { file: own, name };
    const response = await asked(`${this.address}/picture?side=${Math.max(width, height)}`);
    return { file: await response.blob(), name };
  }

  async disparity(source: DepthSource): Promise<Planes> {
    const asking = this.depthAsked = {};
    const response = await asked(`${this.address}/disparity?depth=${source}`);
    if (asking === this.depthAsked) this.depth = source; // else another one was chosen meanwhile
    const [width, height] = ["X-Width", "X-Height"].map((name) => Number(response.headers.get(name)));
    return { channels: 1, height, width, data: new Float32Array(await response.arrayBuffer()) };
  }

  private wish({ focus, fNumber }: Settings, level: number | "full"): string {
    const half = focus.range / 2;
    const where = focus.range > 0
      ? { near: Math.min(1, focus.disparity + half), far: Math.max(0, focus.disparity - half) }
      : {};
    return JSON.stringify({
      disparity: focus.disparity, ...where, f_number: fNumber, level, runtime: this.runtime, depth: this.depth,
    });
  }

  private async ask(path: "refocus" | "result", settings: Settings, level: number | "full"): Promise<Response> {
    this.running?.abort();
    this.running = new AbortController();
    return asked(`${this.address}/${path}`, {
      method: "POST", body: this.wish(settings, level), headers: { "Content-Type": "application/json" },
      signal: this.running.signal,
    });
  }

  private async answer(settings: Settings, level: number | "full"): Promise<Answer> {
    const began = performance.now();
    const { width, height, levels } = this.photo as Given;
    const response = await this.ask("refocus", settings, level);
    const picture = await createImageBitmap(await response.blob());
    const last = (levels ?? levelsOf(width, height)) - 1;
    const at = level === "full" ? last : level;
    const scale = 2 ** (last - at);
    // The machine may cut a level to whole pixels, or leave its padding.
    const covered: [number, number] = [
      Math.min(picture.width, width / scale), Math.min(picture.height, height / scale),
    ];
    return { picture, covered, level: at, draft: false, milliseconds: performance.now() - began };
  }

  quick(settings: Settings): Promise<Answer> {
    return this.answer(settings, 0);
  }

  async refine(settings: Settings, onAnswer: (answer: Answer) => void, progress: Progress): Promise<void> {
    const { width, height, levels } = this.photo as Given;
    const last = (levels ?? levelsOf(width, height)) - 1;
    // Each level is asked for anew, so only a middle one is worth its time.
    for (const level of last > 2 ? [0, last - 1] : [0]) {
      if (level >= last) continue;
      onAnswer(await this.answer(settings, level));
      progress(4 ** level, 4 ** last);
    }
    onAnswer(await this.answer(settings, "full"));
    progress(1, 1);
  }

  async frames(
    all: readonly Settings[], side: number, onFrame: (picture: ImageBitmap, index: number) => void,
  ): Promise<void> {
    const { width, height, levels } = this.photo as Given;
    const last = (levels ?? levelsOf(width, height)) - 1;
    let level = 0;
    while (level < last && Math.max(width, height) / 2 ** (last - level - 1) <= side) level++;
    for (const [index, settings] of all.entries()) {
      const { picture, covered } = await this.answer(settings, level);
      const size = covered.map((length) => Math.max(2, 2 * Math.floor(length / 2)));
      onFrame(await createImageBitmap(picture, 0, 0, size[0], size[1]), index);
    }
  }

  async result(settings: Settings): Promise<SavedFile> {
    const response = await this.ask("result", settings, "full");
    const said = response.headers.get("Content-Disposition") ?? "";
    const coded = /filename\*=(?:UTF-8'')([^;]+)/i.exec(said)?.[1];
    const name = coded ? decodeURIComponent(coded) : /filename="?([^";]+)"?/.exec(said)?.[1];
    return { blob: await response.blob(), name: name ?? "photo_refocused.png", notes: [] };
  }

  cancel(): void {
    this.running?.abort();
  }

  private async forget(old: Given | null): Promise<void> {
    if (!old || this.about.photos.some(({ photo }) => photo === old.photo)) return;
    await fetch(`api/photos/${encodeURIComponent(old.photo)}`, { method: "DELETE", headers: GUARD }).catch(() => null);
  }

  close(): void {
    this.cancel();
    void this.forget(this.photo);
  }
}

/** As many levels as the contract says for a photo of this size. */
function levelsOf(width: number, height: number): number {
  const [long, short] = [Math.max(width, height), Math.min(width, height)];
  let n = 0;
  while (Math.ceil(long / 2 ** n) > 320 && 8 * 2 ** n < short) n++;
  return n + 1;
}
