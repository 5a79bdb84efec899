/** The photo on the page: draws answers, the depth map and the comparison, and tells where a person taps. */

import type { Planes } from "../arrays.js";
import type { Focus, Point } from "../focus.js";
import type { Answer, PhotoInfo } from "./engine.js";

export type View = "result" | "compare" | "depth";

export interface Pointing {
  /** A point was touched, or a finger drags over it. */
  readonly onPoint: (point: Point, dragging: boolean) => void;
  /** The finger was lifted. */
  readonly onLift: () => void;
  /** The line of the comparison was moved: the share that is shown as before. */
  readonly onDivide: (share: number) => void;
}

/** A depth map, and what of it is sharp. */
interface Depth {
  readonly map: Planes;
  readonly focus: Focus | null;
  readonly reach: number;
}

/** Half the width, in CSS pixels, of where a finger takes hold of the comparison's line. */
const GRIP = 22;
/** The colour of what is sharp in the depth map. */
const SHARP = [255, 178, 60];
/** How far an arrow key moves the focus point, as a share of the photo. */
const STEP = 0.02;
/** A finger has to move so many CSS pixels before a tap is a drag. */
const SLOP = 6;

export class Stage {
  view: View = "result";
  /** The share of the width that shows the photo as it was. */
  share = 0.5;
  private info: PhotoInfo | null = null;
  private answer: Answer | null = null;
  private frame: ImageBitmap | null = null;
  private depth: Depth | null = null;
  /** The depth map as it was painted last. */
  private painted: OffscreenCanvas | null = null;
  private cursor: [number, number] = [0.5, 0.5];
  private readonly context: CanvasRenderingContext2D;

  constructor(
    private readonly canvas: HTMLCanvasElement, private readonly ring: HTMLElement,
    private readonly cross: HTMLElement, private readonly pointing: Pointing,
  ) {
    this.context = canvas.getContext("2d") as CanvasRenderingContext2D;
    new ResizeObserver(() => this.fit()).observe(canvas.parentElement as HTMLElement);
    this.listen();
  }

  open(info: PhotoInfo): void {
    this.info = info;
    this.answer = null;
    this.frame = null;
    this.depth = null;
    this.painted = null;
    this.canvas.setAttribute("aria-label", `The photo ${info.name}. Tap what should be sharp.`);
    this.fit();
  }

  /** Show an answer in place of the one before; `brief`: the next one follows at once, so it is scaled the fast way. */
  show(answer: Answer, brief = false): void {
    this.answer?.picture.close();
    this.answer = answer;
    this.draw(brief);
  }

  /** Show a frame of a focus pull, or none any more. */
  showFrame(frame: ImageBitmap | null): void {
    this.frame = frame;
    this.draw();
  }

  /** The depth map, near bright; what is sharp in the accent's colour, `reach` of disparity on either side. */
  setDepth(map: Planes, focus: Focus | null, reach = 0): void {
    this.depth = { map, focus, reach };
    this.painted = null; // it is painted when it is looked at: while a finger drags that would take time from the answers
    if (this.view === "depth") this.draw();
  }

  /** Mark a point for a moment; `held`: a finger is on it, so that it stays. */
  mark([x, y]: Point, held = false): void {
    this.cursor = [x, y];
    this.at(this.ring, x, y);
    this.ring.hidden = false;
    this.ring.classList.remove("set");
    if (held) return;
    void this.ring.offsetWidth; // begins the fading anew
    this.ring.classList.add("set");
  }

  /** The largest size at which the photo fits. */
  private fit(): void {
    const { info, canvas } = this;
    if (!info) return;
    const room = canvas.parentElement as HTMLElement;
    const scale = Math.min(room.clientWidth / info.width, room.clientHeight / info.height);
    if (!(scale > 0)) return;
    const [width, height] = [info.width * scale, info.height * scale];
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const ratio = Math.min(globalThis.devicePixelRatio || 1, info.width / width || 1);
    canvas.width = Math.max(1, Math.round(width * ratio));
    canvas.height = Math.max(1, Math.round(height * ratio));
    this.draw();
  }

  draw(brief = false): void {
    const { info, canvas: { width, height }, context } = this;
    if (!info) return;
    context.imageSmoothingQuality = brief ? "low" : "high";
    if (this.view === "depth" && this.depth) {
      this.painted ??= paintedDepth(this.depth);
      context.drawImage(this.painted, 0, 0, width, height);
      return;
    }
    if (this.frame) {
      context.drawImage(this.frame, 0, 0, width, height);
      return;
    }
    if (!this.answer) {
      context.drawImage(info.picture, 0, 0, width, height);
      return;
    }
    const [columns, rows] = this.answer.covered;
    context.clearRect(0, 0, width, height);
    context.drawImage(this.answer.picture, 0, 0, columns, rows, 0, 0, width, height);
    if (this.view !== "compare") return;
    const at = Math.round(this.share * width);
    context.save();
    context.beginPath();
    context.rect(0, 0, at, height);
    context.clip();
    context.drawImage(info.picture, 0, 0, width, height);
    context.restore();
    this.line(at, height);
  }

  private line(at: number, height: number): void {
    const { context } = this;
    const unit = this.canvas.width / (this.canvas.clientWidth || this.canvas.width);
    context.fillStyle = "rgb(0 0 0 / 55%)";
    context.fillRect(at - 2 * unit, 0, 4 * unit, height);
    context.fillStyle = "#fff";
    context.fillRect(at - unit, 0, 2 * unit, height);
    context.beginPath();
    context.arc(at, height / 2, 16 * unit, 0, 2 * Math.PI);
    context.fill();
    context.fillStyle = "#1b1b1a";
    for (const side of [-1, 1]) {
      context.beginPath();
      context.moveTo(at + side * 11 * unit, height / 2);
      context.lineTo(at + side * 4 * unit, height / 2 - 6 * unit);
      context.lineTo(at + side * 4 * unit, height / 2 + 6 * unit);
      context.fill();
    }
  }

  private at(element: HTMLElement, x: number, y: number): void {
    // Moved as a layer of its own: else what lies below is painted anew with each move of a finger.
    const { offsetLeft, offsetTop, clientWidth, clientHeight } = this.canvas;
    element.style.translate = `${offsetLeft + x * clientWidth}px ${offsetTop + y * clientHeight}px`;
  }

  private point(event: PointerEvent): [number, number] {
    const box = this.canvas.getBoundingClientRect();
    const within = (value: number): number => Math.min(Math.max(value, 0), 1);
    return [within((event.clientX - box.left) / box.width), within((event.clientY - box.top) / box.height)];
  }

  private listen(): void {
    const { canvas, pointing } = this;
    let held: "line" | "focus" | null = null;
    let from = [0, 0];
    let dragging = false;
    canvas.addEventListener("pointerdown", (event) => {
      if (!this.info || event.button !== 0 || !event.isPrimary) return;
      canvas.setPointerCapture(event.pointerId);
      const point = this.point(event);
      const grip = Math.abs(point[0] - this.share) * canvas.clientWidth;
      held = this.view === "compare" && grip <= GRIP ? "line" : "focus";
      from = [event.clientX, event.clientY];
      dragging = false;
      this.cross.hidden = true;
    });
    canvas.addEventListener("pointermove", (event) => {
      if (held === "line") pointing.onDivide(this.point(event)[0]);
      if (held !== "focus") return;
      dragging ||= Math.hypot(event.clientX - from[0], event.clientY - from[1]) > SLOP;
      if (!dragging) return;
      this.mark(this.point(event), true);
      pointing.onPoint(this.point(event), true);
    });
    canvas.addEventListener("pointerup", (event) => {
      if (held === "focus") {
        this.mark(this.point(event));
        if (!dragging) pointing.onPoint(this.point(event), false);
        else pointing.onLift();
      }
      held = null;
    });
    canvas.addEventListener("pointercancel", () => {
      if (held === "focus" && dragging) pointing.onLift();
      held = null;
    });
    canvas.addEventListener("keydown", (event) => {
      const [dx, dy] = MOVES[event.key] ?? [0, 0];
      if (dx || dy) {
        const [x, y] = this.cursor;
        this.cursor = [Math.min(1, Math.max(0, x + dx * STEP)), Math.min(1, Math.max(0, y + dy * STEP))];
        this.at(this.cross, ...this.cursor);
        this.cross.hidden = false;
      } else if (event.key === "Enter" || event.key === " ") {
        this.mark(this.cursor);
        pointing.onPoint(this.cursor, false);
      } else {
        return;
      }
      event.preventDefault();
    });
    canvas.addEventListener("blur", () => { this.cross.hidden = true; });
  }
}

function paintedDepth({ map, focus, reach }: Depth): OffscreenCanvas {
  const image = new ImageData(map.width, map.height);
  for (let i = 0; i < map.data.length; i++) {
    const value = map.data[i];
    const off = focus ? Math.max(0, Math.abs(value - focus.disparity) - focus.range / 2) : Infinity;
    const share = Math.max(0, 1 - off / (reach || 1));
    const grey = 40 + 200 * value;
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = grey + share * (SHARP[c] * (0.6 + 0.4 * value) - grey);
    image.data[4 * i + 3] = 255;
  }
  const canvas = new OffscreenCanvas(map.width, map.height);
  (canvas.getContext("2d") as OffscreenCanvasRenderingContext2D).putImageData(image, 0, 0);
  return canvas;
}

const MOVES: Readonly<Record<string, readonly [number, number]>> = {
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
};
