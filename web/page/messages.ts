/** What the page and its worker say to each other. */

import type { Photo, Planes } from "../arrays.js";
import type { Placements } from "./placement.js";
import type { DepthSource, PhotoInfo, SavedFile, Settings, Way } from "./engine.js";

export type Backend = "wasm" | "webgpu";

export type Task =
  | { readonly do: "start"; readonly base: string; readonly backend: Backend }
  | { readonly do: "open"; readonly file: Blob; readonly name: string }
  | { readonly do: "disparity"; readonly source: DepthSource }
  | { readonly do: "quick"; readonly settings: Settings; readonly way: Way }
  | { readonly do: "draft" }
  | { readonly do: "refine"; readonly settings: Settings }
  | { readonly do: "frames"; readonly all: readonly Settings[]; readonly side: number }
  | { readonly do: "result"; readonly settings: Settings }
  | { readonly do: "test"; readonly base: string }
  | { readonly do: "network"; readonly network: string; readonly inputs: Record<string, Planes> }
  | { readonly do: "loop"; readonly loop: LoopTask }
  | { readonly do: "depth picture"; readonly photo: Photo };

/** The whole way of a photo with all that it gives on the way, for `?drive`. */
export interface LoopTask {
  readonly photo: Photo;
  readonly map: Planes;
  readonly settings: Settings;
  readonly tile: number;
}

/** `id` is the request's. */
export type Request = Task & { readonly id: number };

export interface TestLine {
  readonly name: string;
  /** Largest difference from the golden vectors, and the largest that is allowed. */
  readonly largest: number;
  readonly allowed: number;
  readonly milliseconds: number;
  /** What is told in place of the largest difference, and of the largest that is allowed. */
  readonly told?: string;
  readonly toldAllowed?: string;
}

/** What comes on the way to the end of a task. */
export type Event =
  | { readonly kind: "progress"; readonly done: number; readonly whole: number }
  | {
      readonly kind: "picture"; readonly picture: ImageBitmap; readonly covered: readonly [number, number];
      readonly level: number; readonly draft: boolean;
    }
  | { readonly kind: "line"; readonly line: TestLine }
  | { readonly kind: "planes"; readonly name: string; readonly planes: Planes };

export type End =
  | { readonly kind: "done"; readonly value?: PhotoInfo | Placements | Planes | SavedFile | Uint8Array }
  | { readonly kind: "cancelled" }
  | { readonly kind: "error"; readonly message: string };

export type Reply = (Event | End) & { readonly id: number };
