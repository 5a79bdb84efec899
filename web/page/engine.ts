/** What the page asks of whatever computes the pictures: the browser itself, or a machine with `deeplens studio`. */

import type { Planes } from "../arrays.js";
import type { Focus } from "../focus.js";

/** What a person has chosen. */
export interface Settings {
  readonly focus: Focus;
  readonly fNumber: number;
}

/** Where depth comes from: the map that the phone put into the photo's file, or the depth network. */
export type DepthSource = "embedded" | "predicted";

/** The photo that is open. */
export interface PhotoInfo {
  readonly name: string;
  /** Upright, in pixels. */
  readonly width: number;
  readonly height: number;
  /** Number of levels: the last one is the photo's own size. */
  readonly levels: number;
  /** Whether the photo's file holds a depth map that can be used. */
  readonly embedded: boolean;
  /** What is told to the person: what of the file can't be kept or seen. */
  readonly notes: readonly string[];
  /** The photo as it is, upright. */
  readonly picture: ImageBitmap;
}

/** An answer: a picture of the whole photo at some size. */
export interface Answer {
  readonly picture: ImageBitmap;
  /** How much of the picture's width and height shows the photo; the rest is padding. */
  readonly covered: readonly [width: number, height: number];
  /** 0 is the base, `levels` − 1 the photo's own size, −1 half the base. */
  readonly level: number;
  /** Whether INT8 made it, which is nearly the same. */
  readonly draft: boolean;
  /** Milliseconds since it was asked for. */
  readonly milliseconds: number;
}

/** How a drag is answered: by the whole base, exactly or in INT8, or by half of it. */
export type Way = "whole" | "draft" | "half";

export type Progress = (done: number, whole: number) => void;

/** A file to be saved. */
export interface SavedFile {
  readonly blob: Blob;
  readonly name: string;
  readonly notes: readonly string[];
}

/** A newer request came. */
export class Cancelled extends Error {
  constructor() {
    super("a newer request came");
    this.name = "Cancelled";
  }
}

export interface Engine {
  /** As the page names it. */
  readonly name: string;
  /** Get ready; `progress` counts bytes. */
  start(progress: Progress): Promise<void>;
  open(file: Blob, name: string): Promise<PhotoInfo>;
  /** From now on depth comes from `source`; its map is 1 × h × w, in [0, 1], near = large. */
  disparity(source: DepthSource): Promise<Planes>;
  /** An answer while a finger drags, in this way where the engine has it. Ends what else is at work. */
  quick(settings: Settings, way: Way): Promise<Answer>;
  /** All levels, one by one, ending with the photo's own size. Rejects with `Cancelled` if a newer request comes. */
  refine(settings: Settings, onAnswer: (answer: Answer) => void, progress: Progress): Promise<void>;
  /** One picture for each focus, of at most `side` pixels: the frames of a focus pull. */
  frames(
    all: readonly Settings[], side: number, onFrame: (picture: ImageBitmap, index: number) => void,
  ): Promise<void>;
  /** The photo's own size as a file, with the photo's metadata. */
  result(settings: Settings, progress: Progress): Promise<SavedFile>;
  /** End what is at work. */
  cancel(): void;
  close(): void;
}
