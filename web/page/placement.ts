/** How many operations of a network run on the processor although the graphics processor was chosen. */

import type { TestLine } from "./messages.js";

export interface Placed {
  readonly all: number;
  readonly onProcessor: number;
  /** The kinds of these operations. */
  readonly kinds: readonly string[];
}

/** Of each network; null: it can't be told. */
export type Placements = Readonly<Record<string, Placed | null>>;

const GROUP = /placed on \[(\w+)\]\. Number of nodes: (\d+)/;
const NODE = /^\s*(?:\S.*\s)?(\w+) \([^)]*\)\s*$/;

/** What ONNX Runtime's own words say, told one by one at its most talkative; null where they say nothing of it. */
export function placedBy(lines: readonly string[]): Placed | null {
  let all = 0;
  let onProcessor = 0;
  let on = "";
  const kinds = new Set<string>();
  for (const line of lines) {
    const group = GROUP.exec(line);
    if (group) {
      on = group[1];
      all += Number(group[2]);
      if (on === "CPUExecutionProvider") onProcessor += Number(group[2]);
    } else if (on === "CPUExecutionProvider") {
      const node = NODE.exec(line);
      if (node) kinds.add(node[1]);
    }
  }
  return all > 0 ? { all, onProcessor, kinds: [...kinds].sort() } : null;
}

/** Lines of the self-test: no operation may run on the processor unseen. */
export function placedLines(placements: Placements): TestLine[] {
  return Object.entries(placements).map(([network, placed]) => ({
    name: `${network.replace("_", " ")}, operations elsewhere`,
    largest: placed ? placed.onProcessor : Infinity,
    allowed: 0,
    milliseconds: 0,
    told: placed
      ? `${placed.onProcessor} of ${placed.all}${placed.kinds.length ? ` (${placed.kinds.join(", ")})` : ""}`
      : "not told",
  }));
}

const CHANNELS = ["log", "info", "warn", "error", "debug"] as const;

/** Does `work`, and collects what is told on the console meanwhile, where it then does not appear. */
export async function overheard<T>(work: () => Promise<T>): Promise<[T, string[]]> {
  const lines: string[] = [];
  const before = CHANNELS.map((name) => console[name]);
  for (const name of CHANNELS) {
    console[name] = (...words: unknown[]) => { lines.push(...words.map(String).join(" ").split("\n")); };
  }
  try {
    return [await work(), lines];
  } finally {
    CHANNELS.forEach((name, i) => { console[name] = before[i]; });
  }
}
