/** A graph on several workers: each call goes to the one that is free. */

import type { Planes } from "../arrays.js";
import type { Run } from "../network.js";
import type { LaneReply, LaneRun, LaneStart } from "./lane.js";

/** Calls that a worker has at a time: while it runs one, the next one is on its way. */
const DEPTH = 2;

export class Lanes {
  private readonly workers: Worker[];
  private readonly free: Worker[];
  private readonly waiting: ((worker: Worker) => void)[] = [];
  private readonly answers = new Map<number, (reply: LaneReply) => void>();
  private next = 0;

  constructor(readonly count: number, start: LaneStart) {
    this.workers = Array.from({ length: count }, () => {
      const worker = new Worker(new URL("./lane.ts", import.meta.url), { type: "module" });
      worker.onmessage = ({ data }: MessageEvent<LaneReply>) => this.answers.get(data.id)?.(data);
      worker.onerror = (event) => this.failed(event.message);
      worker.postMessage(start);
      return worker;
    });
    this.free = Array.from({ length: DEPTH }, () => this.workers).flat();
  }

  /** Runs the graph. */
  readonly run: Run = async (inputs, given = false): Promise<Planes> => {
    const worker = this.free.shift() ?? (await new Promise<Worker>((resolve) => this.waiting.push(resolve)));
    const id = this.next++;
    try {
      const reply = await new Promise<LaneReply>((resolve) => {
        this.answers.set(id, resolve);
        const buffers = given ? Object.values(inputs).map(({ data }) => data.buffer as ArrayBuffer) : [];
        const transfer = [...new Set(buffers)];
        worker.postMessage({ id, inputs } satisfies LaneRun, transfer);
      });
      if ("message" in reply) throw new Error(reply.message);
      return reply.planes satisfies Planes;
    } finally {
      this.answers.delete(id);
      const after = this.waiting.shift();
      if (after) after(worker);
      else this.free.push(worker);
    }
  };

  private failed(message: string): void {
    for (const [id, answer] of this.answers) answer({ id, message: message || "a worker could not be started" });
  }
}
