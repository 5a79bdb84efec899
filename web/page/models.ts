/** Fetches the models that lie beside the page, tells how far it is, and looks at their SHA-256. */

import type { Progress } from "./engine.js";

export interface About {
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
}

export interface Models {
  readonly format: number;
  readonly version: string;
  readonly variant: string;
  readonly networks: Readonly<Record<NetworkName, About>>;
  readonly harness: About;
  /** The lens blur in INT8 for drags, where it was exported. */
  readonly draft?: About;
  /** The same networks in the form that WebGPU computes right, where they were exported. */
  readonly webgpu?: Readonly<Record<NetworkName, About>>;
}

export type NetworkName = "depth" | "lens_blur" | "upsample";

export const NETWORKS: readonly NetworkName[] = ["depth", "lens_blur", "upsample"];

const FORMAT = 3;

/** What models.json says. */
export async function readModels(base: string): Promise<Models> {
  const models = (await (await answered(new URL("models/models.json", base))).json()) as Models;
  if (models.format !== FORMAT) {
    throw new Error(`the models beside this page have format ${models.format}, and it knows ${FORMAT}: build it again`);
  }
  return models;
}

async function answered(address: URL): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(address);
  } catch {
    throw new Error(`${address.pathname} can't be reached: check the connection, then reload the page`);
  }
  if (!response.ok) throw new Error(`${address.pathname} is missing on the server (${response.status})`);
  return response;
}

/** Files below `base`, all at once; `progress` counts the bytes of all of them. */
export async function fetched(
  base: string, files: readonly string[], sizes: readonly number[], progress: Progress,
): Promise<Uint8Array<ArrayBuffer>[]> {
  const done = files.map(() => 0);
  const whole = sizes.reduce((a, b) => a + b, 0);
  return Promise.all(files.map(async (file, i) => {
    const response = await answered(new URL(file, base));
    if (!response.body) return new Uint8Array(await response.arrayBuffer());
    const parts: Uint8Array[] = [];
    for (const reader = response.body.getReader(); ;) {
      const { value, done: ended } = await reader.read();
      if (ended) break;
      parts.push(value);
      done[i] += value.length;
      progress(Math.min(done.reduce((a, b) => a + b, 0), whole), whole);
    }
    const data = new Uint8Array(done[i]);
    let at = 0;
    for (const part of parts) {
      data.set(part, at);
      at += part.length;
    }
    return data;
  }));
}

/** Throws an `Error` unless `data` is the file that was listed. Without a secure context nothing can be told. */
export async function check(data: Uint8Array<ArrayBuffer>, about: About): Promise<void> {
  if (!globalThis.crypto?.subtle) return;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
  const found = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== about.sha256) throw new Error(`${about.file} is not the file that was built: reload the page`);
}

/** Where a model lies below the page's address; another content has another address, so that a kept file is the right one. */
export function modelFile({ file, sha256 }: About): string {
  return `models/${file}?${sha256.slice(0, 12)}`;
}

/** What is remembered of a self-test that passed: it holds for these graphs only. */
export function testedName(models: Models): string {
  const { webgpu } = models;
  const graphs = webgpu ? NETWORKS.map((name) => webgpu[name]) : [];
  return ["passed", models.version, ...graphs.map(({ sha256 }) => sha256.slice(0, 8))].join(" ");
}
