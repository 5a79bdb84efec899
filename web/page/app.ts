/** What a person does with a photo, and what follows from it: the page's state and its controls. */

import type { Planes } from "../arrays.js";
import { focusAt, type Focus, type Point } from "../focus.js";
import { DepthChoice } from "./depth_choice.js";
import { download } from "./download.js";
import { Cancelled, type Answer, type DepthSource, type Engine, type PhotoInfo, type Settings } from "./engine.js";
import { Pace } from "./pace.js";
import { Pull } from "./pull.js";
import { Stage, type View } from "./stage.js";

export function element<T extends HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no element "${id}"`);
  return found as T;
}

const SMALLEST = 1.4;
const LARGEST = 16;
/** Disparity for each unit of the f-number at which blur begins to be seen. */
const VISIBLE = 0.05;

/** The f-number of the slider's position, rounded as on a lens. */
export function fNumberAt(position: number): number {
  const value = SMALLEST * (LARGEST / SMALLEST) ** (position / 100);
  return value < 10 ? Math.round(value * 10) / 10 : Math.round(value);
}

export class App {
  private engine: Engine | null = null;
  private info: PhotoInfo | null = null;
  private map: Planes | null = null;
  private points: Point[] = [];
  private focus: Focus = { disparity: 0.5, range: 0 };
  /** What the focus is read from: the points, or the ends of the range; null: nothing was chosen yet. */
  private by: "points" | "ends" | null = null;
  /** What the newest drag asks for, while an older one is being answered. */
  private wanted: Settings | null = null;
  private asking = false;
  private readonly pace = new Pace();
  private readonly stage: Stage;
  private readonly pull: Pull;
  private readonly depth = new DepthChoice((before) => void this.depthChosen(before));
  private readonly aperture = element<HTMLInputElement>("aperture");
  private readonly near = element<HTMLInputElement>("near");
  private readonly far = element<HTMLInputElement>("far");
  private readonly divider = element<HTMLInputElement>("divider");
  private readonly save = element<HTMLButtonElement>("save");

  constructor() {
    this.stage = new Stage(element<HTMLCanvasElement>("photo"), element("ring"), element("cursor"), {
      onPoint: (point, dragging) => this.pointed(point, dragging),
      onLift: () => this.lifted(),
      onDivide: (share) => this.divide(share),
    });
    this.pull = new Pull(this.stage, () => this.settings, (text) => this.say(text));
    this.listen();
  }

  get settings(): Settings {
    return { focus: this.focus, fNumber: fNumberAt(Number(this.aperture.value)) };
  }

  private get ranged(): boolean {
    return element<HTMLInputElement>("controls").querySelector<HTMLInputElement>("[name=sharp]:checked")?.value === "range";
  }

  /** A photo was opened by `engine`; `key` null: it is the one that was open, which keeps its focus. */
  async opened(engine: Engine, info: PhotoInfo, key: string | null): Promise<void> {
    this.pull.end();
    this.engine = engine;
    this.info = info;
    this.map = null;
    if (key !== null) {
      this.points = [];
      this.by = null;
    }
    this.depth.open({ key: key ?? this.depth.key, embedded: info.embedded });
    this.wanted = null;
    this.pace.reset();
    element("welcome").hidden = true;
    element("work").hidden = false;
    element("another").hidden = false;
    this.stage.open(info);
    delete element("stage").dataset["state"];
    this.busy(null); // what was at work was for the photo before
    const item = (textContent: string): HTMLElement => Object.assign(document.createElement("li"), { textContent });
    element("notes").replaceChildren(...info.notes.map(item));
    this.say("Tap what should be sharp.");
    this.save.disabled = true;
    element<HTMLButtonElement>("pull").disabled = true;
    await this.findDepth(engine);
  }

  /** Take the map from the source that is chosen, and look the focus up in it anew. */
  private async findDepth(engine: Engine): Promise<void> {
    const { source } = this.depth;
    const map = await engine.disparity(source);
    if (engine !== this.engine || source !== this.depth.source) return;
    this.map = map;
    this.stage.setDepth(map, null);
    if (this.by === "points") this.setFocus(focusAt(map, this.points));
    else if (this.by === "ends") this.setFocus(this.focus);
    if (this.by !== null) this.lifted();
  }

  /** Another source of depth was chosen. */
  private async depthChosen(before: DepthSource): Promise<void> {
    const { engine, map } = this;
    if (!engine) return;
    engine.cancel();
    this.pull.end();
    this.wanted = null;
    this.map = null;
    this.busy(null);
    this.say("Finding the depth…");
    try {
      await this.findDepth(engine);
      if (this.by === null) this.say("Tap what should be sharp.");
    } catch (error) {
      this.fail(error);
      if (error instanceof Cancelled) return; // the other one was chosen again
      this.depth.set(before);
      this.map = map;
      this.say("");
    }
  }

  /** Compute once more, by another runtime. */
  again(): void {
    if (this.by !== null) this.lifted();
  }

  say(text: string): void {
    const status = element("status");
    if (status.textContent !== text) status.textContent = text;
  }

  fail(error: unknown): void {
    if (error instanceof Cancelled) return;
    const box = element("error");
    (box.firstElementChild as HTMLElement).textContent = error instanceof Error ? error.message : String(error);
    box.hidden = false;
    this.busy(null);
  }

  /** The share of the work that is done, or null: nothing is at work. */
  busy(share: number | null): void {
    const bar = element("busy");
    bar.hidden = share === null;
    (bar.firstElementChild as HTMLElement).style.width = `${100 * (share ?? 0)}%`;
  }

  private pointed(point: Point, dragging: boolean): void {
    if (!this.map) return;
    if (this.ranged && !dragging) this.points = [...this.points.slice(-1), point];
    else this.points = this.ranged ? [...this.points.slice(0, -1), point] : [point];
    this.by = "points";
    this.setFocus(focusAt(this.map, this.points));
    if (this.pull.waiting) {
      if (!dragging && this.engine) void this.pull.make(this.engine, this.focus).catch((error) => this.fail(error));
      return;
    }
    this.pull.end();
    if (dragging) this.drag();
    else this.lifted();
  }

  private setFocus(focus: Focus): void {
    this.focus = focus;
    this.save.disabled = false;
    element<HTMLButtonElement>("pull").disabled = false;
    this.near.value = String(100 * (focus.disparity + focus.range / 2));
    this.far.value = String(100 * (focus.disparity - focus.range / 2));
    this.showDepth();
  }

  private showDepth(): void {
    const { focus, fNumber } = this.settings;
    if (this.map) this.stage.setDepth(this.map, focus, VISIBLE * fNumber);
  }

  /** A control is being dragged: answer as fast as can be. */
  private drag(): void {
    this.wanted = this.settings;
    if (!this.asking) void this.answerDrags();
  }

  private async answerDrags(): Promise<void> {
    this.asking = true;
    const ask = (): Promise<Answer> | null => {
      const settings = this.wanted;
      this.wanted = null;
      return settings && this.engine ? this.engine.quick(settings, this.pace.next()) : null;
    };
    try {
      for (let next = ask(); next; ) {
        const answer = await next;
        this.pace.add(answer);
        next = ask(); // which is computed while this one is drawn
        this.stage.show(answer, true);
        document.dispatchEvent(new CustomEvent("deeplens-answer", { detail: answer }));
        next ??= ask(); // the finger may have moved meanwhile
      }
    } catch (error) {
      this.fail(error);
    } finally {
      this.asking = false;
    }
  }

  /** The control was let go: sharpen level by level. */
  private lifted(): void {
    this.wanted = null;
    if (this.engine && this.map) void this.refine(this.engine, this.settings);
  }

  private async refine(engine: Engine, settings: Settings): Promise<void> {
    const began = performance.now();
    const last = (this.info as PhotoInfo).levels - 1;
    element("stage").dataset["state"] = "working";
    this.busy(0);
    try {
      await engine.refine(settings, (answer) => {
        this.pace.add(answer);
        this.stage.show(answer);
        document.dispatchEvent(new CustomEvent("deeplens-answer", { detail: answer }));
        if (answer.level < last) this.say(`Sharpening: ${answer.level + 1} of ${last + 1}`);
      }, (done, whole) => this.busy(done / whole));
      this.busy(null);
      element("stage").dataset["state"] = "ready";
      this.say(`${this.described()}. Ready after ${((performance.now() - began) / 1000).toFixed(1)} s.`);
    } catch (error) {
      this.fail(error);
      if (!(error instanceof Cancelled)) this.say("Not sharpened to the end. Tap the photo to try again.");
    }
  }

  private described(): string {
    const { focus: { range }, fNumber } = this.settings;
    return range > 0 ? `f/${fNumber}, a range` : `f/${fNumber}`;
  }

  private divide(share: number): void {
    this.stage.share = share;
    this.divider.value = String(100 * share);
    this.stage.draw();
  }

  private setView(view: View): void {
    element("controls").querySelectorAll<HTMLInputElement>("[name=view]").forEach((one) => {
      one.checked = one.value === view;
    });
    this.stage.view = view;
    element("comparing").hidden = view !== "compare";
    this.stage.draw();
    this.hint();
  }

  private hint(): void {
    const depth = this.stage.view === "depth" ? " Near is bright, orange is sharp." : "";
    element("hint").textContent = (this.ranged
      ? "Tap two things: all between them in depth is sharp."
      : "Tap the photo to focus, or drag over it.") + depth;
  }

  private async saved(): Promise<void> {
    if (!this.engine) return;
    this.save.disabled = true;
    this.busy(0);
    this.say("Making the photo in its full size…");
    try {
      const file = await this.engine.result(this.settings, (done, whole) => this.busy(done / whole));
      download(file.blob, file.name);
      this.say([`Saved ${file.name}.`, ...file.notes].join(" "));
    } catch (error) {
      this.fail(error);
      if (!(error instanceof Cancelled)) this.say("The photo was not saved.");
    } finally {
      this.save.disabled = false;
      this.busy(null);
      // Saving ended the sharpening that was at work.
      if (element("stage").dataset["state"] !== "ready") this.lifted();
    }
  }

  private listen(): void {
    const shown = (): void => {
      const { fNumber } = this.settings;
      element("f-number").textContent = `f/${fNumber}`;
      this.aperture.setAttribute("aria-valuetext", `f/${fNumber}`);
    };
    shown();
    const chosen = (): boolean => this.by !== null;
    this.aperture.addEventListener("input", () => {
      shown();
      this.pull.end();
      if (chosen()) this.drag();
      if (chosen()) this.showDepth();
    });
    this.aperture.addEventListener("change", () => { if (chosen()) this.lifted(); });
    const ends = (moved: HTMLInputElement): void => {
      const [near, far] = [Number(this.near.value), Number(this.far.value)];
      // The end that is not moved is pushed along.
      if (near < far) (moved === this.near ? this.far : this.near).value = moved.value;
      const [high, low] = [Number(this.near.value) / 100, Number(this.far.value) / 100];
      this.focus = { disparity: (high + low) / 2, range: high - low };
      this.by = "ends";
      this.save.disabled = false;
      this.showDepth();
      this.drag();
    };
    for (const input of [this.near, this.far]) {
      input.addEventListener("input", () => ends(input));
      input.addEventListener("change", () => this.lifted());
    }
    this.divider.addEventListener("input", () => this.divide(Number(this.divider.value) / 100));
    element("controls").addEventListener("change", (event) => {
      const input = event.target as HTMLInputElement;
      if (input.name === "view") this.setView(input.value as View);
      if (input.name !== "sharp") return;
      element("range").hidden = !this.ranged;
      this.hint();
      if (!this.ranged && this.map && this.points.length > 0) {
        this.points = this.points.slice(-1);
        this.by = "points";
        this.setFocus(focusAt(this.map, this.points));
        this.lifted();
      }
    });
    element("controls").addEventListener("submit", (event) => event.preventDefault());
    this.save.addEventListener("click", () => void this.saved());
    element("pull").addEventListener("click", () => this.pull.begin());
    element("pull-end").addEventListener("click", () => {
      this.pull.end();
      this.lifted(); // the focus is now where the pull ended
    });
    element("photo").addEventListener("keydown", (event) => {
      const views: Readonly<Record<string, View>> = { b: "compare", d: "depth" };
      const view = views[(event as KeyboardEvent).key.toLowerCase()];
      if (view) this.setView(this.stage.view === view ? "result" : view);
    });
    this.hint();
  }
}
