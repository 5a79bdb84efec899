/** How the next drag is answered: by how long the answers before took on this device. */

import type { Answer, Way } from "./engine.js";

/** Milliseconds that an answer at the base may take: eight a second. The exact one has to leave some of it. */
const IN_TIME = { whole: 100, draft: 125 } as const;
/** What takes no more milliseconds promises that a finer way is in time. */
const PROMISES = { whole: { draft: 75, half: 40 }, draft: { half: 70 } } as const;
/** The median of so many answers counts, so that one slow answer changes nothing. */
const REMEMBERED = 5;
/** Fewer answers than this tell little: one of them may have been the first, or have met other work. */
const ENOUGH = 3;
/** A finer way that was too slow is tried again after so many answers. */
const PATIENCE = 16;

export class Pace {
  private times: Record<Way, number[]> = { whole: [], draft: [], half: [] };
  private readonly since = { whole: 0, draft: 0 };

  /** Another photo, or another engine. */
  reset(): void {
    this.times = { whole: [], draft: [], half: [] };
  }

  /** An answer came. */
  add({ level, draft, milliseconds }: Pick<Answer, "level" | "draft" | "milliseconds">): void {
    if (level > 0) return;
    const way = level < 0 ? "half" : draft ? "draft" : "whole";
    this.since.whole++;
    this.since.draft++;
    if (way !== "half") this.since[way] = 0;
    const times = this.times[way];
    times.push(milliseconds);
    if (times.length > REMEMBERED) times.shift();
  }

  /** The finest way that is in time, or that may be. */
  get way(): Way {
    if (this.inTime("whole")) return "whole";
    if (this.worthATry("whole")) return "whole";
    return this.inTime("draft") || this.worthATry("draft") ? "draft" : "half";
  }

  private inTime(way: "whole" | "draft"): boolean {
    return median(this.times[way]) <= IN_TIME[way];
  }

  private worthATry(way: "whole" | "draft"): boolean {
    const { half, draft } = this.times;
    const promised = way === "whole" && draft.length > 0
      ? median(draft) <= PROMISES.whole.draft
      : median(half) <= PROMISES[way].half;
    const known = this.times[way].length;
    return promised && (known < ENOUGH || this.since[way] >= PATIENCE);
  }
}

/** Of an even number the lower of the two in the middle; infinite: there is none. */
function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[(values.length - 1) >> 1] ?? Infinity;
}
