/** A focus pull: the focus moves from one distance to another, plays on the page, and is saved as an animation. */

import type { Focus } from "../focus.js";
import { element } from "./app.js";
import { download } from "./download.js";
import type { Engine, Settings } from "./engine.js";
import { filmFormats } from "./film.js";
import type { Stage } from "./stage.js";

/** Frames from one end to the other. */
const COUNT = 16;
/** Milliseconds that a frame is shown. */
const TIME = 70;
/** Frames for which the focus rests at each end. */
const REST = 5;
/** Longest side of the animation, in pixels. */
const SIDE = 800;

export class Pull {
  /** Whether the next tap is the end of the pull. */
  waiting = false;
  private from: Focus | null = null;
  private playing = 0;
  private frames: ImageBitmap[] = [];

  constructor(
    private readonly stage: Stage, private readonly settings: () => Settings,
    private readonly say: (text: string) => void,
  ) {}

  /** The pull starts at what is in focus now. */
  begin(): void {
    this.end();
    this.from = this.settings().focus;
    this.waiting = true;
    element("pulling").hidden = false;
    element("pull-hint").textContent = "It starts at what is sharp now. Tap where the focus should end.";
    element("pulling").scrollIntoView({ block: "nearest" });
    this.say("Focus pull: tap where the focus should end.");
  }

  async make(engine: Engine, to: Focus): Promise<void> {
    const { from } = this;
    if (!from) return;
    this.waiting = false;
    const { fNumber } = this.settings();
    const all = Array.from({ length: COUNT }, (_, i): Settings => {
      const t = i / (COUNT - 1);
      const share = t * t * (3 - 2 * t); // slow at both ends, as a hand turns a lens
      const between = (a: number, b: number): number => a + share * (b - a);
      return {
        fNumber,
        focus: { disparity: between(from.disparity, to.disparity), range: between(from.range, to.range) },
      };
    });
    const bar = element<HTMLProgressElement>("pull-progress");
    bar.hidden = false;
    bar.value = 0;
    const frames: ImageBitmap[] = [];
    try {
      await engine.frames(all, SIDE, (picture, index) => {
        frames.push(picture);
        this.stage.showFrame(picture);
        bar.value = (index + 1) / COUNT;
        element("pull-hint").textContent = `Making the pictures: ${index + 1} of ${COUNT}`;
      });
    } catch (error) {
      this.end();
      throw error;
    }
    bar.hidden = true;
    const rest = (frame: ImageBitmap): ImageBitmap[] => Array<ImageBitmap>(REST).fill(frame);
    this.frames = [...rest(frames[0]), ...frames, ...rest(frames[COUNT - 1]), ...frames.slice(1, -1).reverse()];
    element("pull-hint").textContent = "Save it as";
    this.say("The focus pull is ready to be saved.");
    await this.offer();
    this.play();
  }

  private async offer(): Promise<void> {
    const formats = await filmFormats();
    element("pull-save").replaceChildren(...formats.map(({ name, suffix, make }) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.dataset["format"] = suffix;
      button.addEventListener("click", () => void (async () => {
        const all = [...element("pull-save").querySelectorAll("button")];
        all.forEach((one) => { one.disabled = true; });
        this.say(`Writing the ${name}…`);
        try {
          download(await make(this.frames, TIME), `focus_pull.${suffix}`);
          this.say(`Saved focus_pull.${suffix}.`);
        } catch (error) {
          this.say(error instanceof Error ? error.message : String(error));
        } finally {
          all.forEach((one) => { one.disabled = false; });
        }
      })());
      return button;
    }));
    element("pull-save").hidden = false;
    element("pulling").scrollIntoView({ block: "nearest" });
  }

  private play(): void {
    let at = 0;
    const next = (): void => {
      this.stage.showFrame(this.frames[at]);
      at = (at + 1) % this.frames.length;
    };
    next();
    this.playing = window.setInterval(next, TIME);
  }

  /** Back to the photo. */
  end(): void {
    window.clearInterval(this.playing);
    this.waiting = false;
    this.from = null;
    for (const frame of new Set(this.frames)) frame.close();
    this.frames = [];
    this.stage.showFrame(null);
    element("pulling").hidden = true;
    element("pull-save").hidden = true;
    element("pull-progress").hidden = true;
  }
}
