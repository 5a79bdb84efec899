/** The browser itself as an engine: passes each request to the worker. */

import type { Planes } from "../arrays.js";
import {
  Cancelled, type Answer, type DepthSource, type Engine, type PhotoInfo, type Progress, type SavedFile, type Settings,
  type Way,
} from "./engine.js";
import type { Placements } from "./placement.js";
import type { Backend, Event, Reply, Task, TestLine } from "./messages.js";

interface Waiting {
  readonly onEvent: (event: Event) => void;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

export class LocalEngine implements Engine {
  readonly name: string;
  private readonly worker: Worker;
  private readonly waiting = new Map<number, Waiting>();
  private next = 1;

  constructor(private readonly backend: Backend) {
    this.name = backend === "wasm" ? "this browser" : "this browser, graphics processor";
    this.worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data }: MessageEvent<Reply>) => this.received(data);
    this.worker.onerror = (event) => this.failed(event.message);
  }

  private received(reply: Reply): void {
    const waiting = this.waiting.get(reply.id);
    if (!waiting) return;
    if (reply.kind !== "done" && reply.kind !== "cancelled" && reply.kind !== "error") {
      waiting.onEvent(reply);
      return;
    }
    this.waiting.delete(reply.id);
    if (reply.kind === "done") waiting.resolve(reply.value);
    else waiting.reject(reply.kind === "cancelled" ? new Cancelled() : new Error(forPeople(reply.message)));
  }

  private failed(message: string): void {
    for (const [, { reject }] of this.waiting) reject(new Error(forPeople(message)));
    this.waiting.clear();
  }

  /** Give the worker a task; resolves with what it ends with. */
  ask<T>(task: Task, onEvent: (event: Event) => void = () => undefined, transfer: Transferable[] = []): Promise<T> {
    const id = this.next++;
    return new Promise<T>((resolve, reject) => {
      this.waiting.set(id, { onEvent, resolve: resolve as (value: unknown) => void, reject });
      this.worker.postMessage({ ...task, id }, transfer);
    });
  }

  /** What of the networks runs elsewhere than on the graphics processor; empty on the processor. */
  placed: Placements = {};

  async start(progress: Progress): Promise<void> {
    this.placed = await this.ask({ do: "start", base: document.baseURI, backend: this.backend }, passing(progress));
  }

  async open(file: Blob, name: string): Promise<PhotoInfo> {
    const info = await this.ask<PhotoInfo>({ do: "open", file, name });
    this.draft().catch(() => undefined); // without it the others answer
    return info;
  }

  /** Loads what answers drags in INT8, if the page has it. */
  draft(): Promise<void> {
    return this.ask({ do: "draft" });
  }

  disparity(source: DepthSource): Promise<Planes> {
    return this.ask({ do: "disparity", source });
  }

  async quick(settings: Settings, way: Way): Promise<Answer> {
    let answer: Answer | null = null;
    const began = performance.now();
    await this.ask({ do: "quick", settings, way }, answering(began, (one) => { answer = one; }));
    if (!answer) throw new Cancelled();
    return answer;
  }

  async refine(settings: Settings, onAnswer: (answer: Answer) => void, progress: Progress): Promise<void> {
    const tell = passing(progress);
    const show = answering(performance.now(), onAnswer);
    await this.ask({ do: "refine", settings }, (event) => { tell(event); show(event); });
  }

  async frames(
    all: readonly Settings[], side: number, onFrame: (picture: ImageBitmap, index: number) => void,
  ): Promise<void> {
    let index = 0;
    await this.ask({ do: "frames", all, side }, answering(0, ({ picture }) => onFrame(picture, index++)));
  }

  result(settings: Settings, progress: Progress): Promise<SavedFile> {
    return this.ask({ do: "result", settings }, passing(progress));
  }

  /** Runs the golden vectors here. */
  async test(onLine: (line: TestLine) => void): Promise<void> {
    await this.draft();
    return this.ask({ do: "test", base: document.baseURI }, (event) => { if (event.kind === "line") onLine(event.line); });
  }

  cancel(): void {
    this.worker.postMessage({ do: "cancel" });
  }

  close(): void {
    this.worker.terminate();
    this.failed("it was closed");
  }
}

function passing(progress: Progress): (event: Event) => void {
  return (event) => { if (event.kind === "progress") progress(event.done, event.whole); };
}

function answering(began: number, onAnswer: (answer: Answer) => void): (event: Event) => void {
  return (event) => {
    if (event.kind !== "picture") return;
    const { picture, covered, level, draft } = event;
    onAnswer({ picture, covered, level, draft, milliseconds: performance.now() - began });
  };
}

/** A message of the engine in words that help. */
function forPeople(message: string): string {
  if (/memory|allocat|bad_alloc|OOM/i.test(message)) {
    return "The browser has not enough memory for this photo. Close other tabs, or use a smaller photo.";
  }
  return message || "The browser could not start the part that computes. Reload the page.";
}
