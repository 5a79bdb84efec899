/** How the next drag is answered: by how long the answers before took on this device. */

import type { Answer, Way } from "./engine.js";

/** Milliseconds that an answer at the base may take: eight a second. */
const IN_TIME = 125;
/** An exact answer that takes no more is better than a faster one in INT8. */
const WITH_A_MARGIN = 100;
/** A way that is in use may take so much longer before it is left: the picture should not change its sharpness often. */
const STAYING = 1.12;
/** What takes no more milliseconds promises that a finer way is in time. */
const PROMISES = { whole: { draft: 75, half: 45 }, draft: { half: 70 } } as const;
/** The median of so many answers counts, so that one slow answer changes nothing. */
const REMEMBERED = 5;
/** A finer way is tried so often, however slow: the first answers of a drag meet the end of other work. */
const TRIES = 6;
/** A finer way that was too slow is tried again after so many answers. */
const PATIENCE = 16;

export class Pace {
  private times: Record<Way, number[]> = { whole: [], draft: [], half: [] };
  private tries = { whole: 0, draft: 0 };
  /** Answers since a way was tried. */
  private since = { whole: 0, draft: 0 };
  /** The way that was in time. */
  private inUse: Way = "half";

  /** Another photo, or another engine. */
  reset(): void {
    this.times = { whole: [], draft: [], half: [] };
    this.tries = { whole: 0, draft: 0 };
    this.since = { whole: 0, draft: 0 };
    this.inUse = "half";
  }

  /** An answer came. */
  add({ level, draft, milliseconds }: Pick<Answer, "level" | "draft" | "milliseconds">): void {
    if (level > 0) return;
    this.since.whole++;
    this.since.draft++;
    const times = this.times[level < 0 ? "half" : draft ? "draft" : "whole"];
    times.push(milliseconds);
    if (times.length > REMEMBERED) times.shift();
  }

  /** How to ask next: in the finest way that is in time, or that may be. */
  next(): Way {
    const way = this.finest();
    if (way !== "half") {
      this.tries[way]++;
      this.since[way] = 0;
    }
    return way;
  }

  private finest(): Way {
    if (this.inTime("whole", WITH_A_MARGIN)) return (this.inUse = "whole");
    if (this.worthATry("whole")) return "whole";
    if (this.inTime("draft", IN_TIME)) return (this.inUse = "draft");
    if (this.worthATry("draft")) return "draft";
    return (this.inUse = this.inTime("whole", IN_TIME) ? "whole" : "half"); // where there is no INT8
  }

  private inTime(way: Way, limit: number): boolean {
    return median(this.times[way]) <= (way === this.inUse ? STAYING * limit : limit);
  }

  private worthATry(way: "whole" | "draft"): boolean {
    const { half, draft } = this.times;
    const promised = way === "whole" && draft.length > 0
      ? median(draft) <= PROMISES.whole.draft
      : median(half) <= PROMISES[way].half;
    if (!promised) return false;
    const limit = way === "whole" ? WITH_A_MARGIN : IN_TIME;
    const last = this.times[way].at(-1) ?? Infinity;
    return this.tries[way] < TRIES || this.since[way] >= PATIENCE || last <= limit;
  }
}

/** Of an even number the lower of the two in the middle; infinite: there is none. */
function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[(values.length - 1) >> 1] ?? Infinity;
}
