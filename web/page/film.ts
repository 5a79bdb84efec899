/** Frames as an animation: GIF, animated WebP, or a film where the browser can record one. */

import { applyPalette, GIFEncoder, quantize } from "gifenc";

import { riff, webpChunks } from "./metadata.js";

export interface FilmFormat {
  readonly name: string;
  readonly suffix: string;
  readonly make: (frames: readonly ImageBitmap[], milliseconds: number) => Promise<Blob>;
}

const FILMS = [
  { name: "MP4", suffix: "mp4", type: "video/mp4;codecs=avc1.42E01F" },
  { name: "MP4", suffix: "mp4", type: "video/mp4" },
  { name: "WebM", suffix: "webm", type: "video/webm" },
];

/** What this browser can write; the film first. */
export async function filmFormats(): Promise<FilmFormat[]> {
  const formats: FilmFormat[] = [];
  const film = FILMS.find(({ type }) => globalThis.MediaRecorder?.isTypeSupported(type));
  if (film) formats.push({ ...film, make: (frames, time) => recorded(frames, time, film.type) });
  const probe = new OffscreenCanvas(1, 1);
  probe.getContext("2d");
  if ((await probe.convertToBlob({ type: "image/webp" })).type === "image/webp") formats.push({ name: "WebP", suffix: "webp", make: webp });
  formats.push({ name: "GIF", suffix: "gif", make: gif });
  return formats;
}

function drawn(frame: ImageBitmap): [OffscreenCanvas, OffscreenCanvasRenderingContext2D] {
  const canvas = new OffscreenCanvas(frame.width, frame.height);
  const context = canvas.getContext("2d", { willReadFrequently: true }) as OffscreenCanvasRenderingContext2D;
  context.drawImage(frame, 0, 0);
  return [canvas, context];
}

/** One moment for the page between two frames. */
function breath(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}

async function gif(frames: readonly ImageBitmap[], milliseconds: number): Promise<Blob> {
  const encoder = GIFEncoder();
  for (const frame of frames) {
    const { data } = drawn(frame)[1].getImageData(0, 0, frame.width, frame.height);
    const palette = quantize(data, 256);
    encoder.writeFrame(applyPalette(data, palette), frame.width, frame.height, { palette, delay: milliseconds });
    await breath();
  }
  encoder.finish();
  return new Blob([Uint8Array.from(encoder.bytes())], { type: "image/gif" });
}

/** A little-endian number of three bytes. */
function three(value: number): number[] {
  return [value & 255, (value >> 8) & 255, (value >> 16) & 255];
}

async function webp(frames: readonly ImageBitmap[], milliseconds: number): Promise<Blob> {
  const [{ width, height }] = frames;
  const size = [...three(width - 1), ...three(height - 1)];
  const chunks: [string, Uint8Array][] = [
    ["VP8X", Uint8Array.from([2, 0, 0, 0, ...size])], // 2: it moves
    ["ANIM", Uint8Array.from([0, 0, 0, 255, 0, 0])], // black behind, for ever
  ];
  for (const frame of frames) {
    const blob = await drawn(frame)[0].convertToBlob({ type: "image/webp", quality: 0.85 });
    const picture = webpChunks(new Uint8Array(await blob.arrayBuffer())).filter(([name]) => name.startsWith("VP8 "));
    const body = riff(picture).subarray(12); // without the head of a file
    const head = Uint8Array.from([0, 0, 0, 0, 0, 0, ...size, ...three(milliseconds), 2]); // 2: not mixed
    const whole = new Uint8Array(head.length + body.length);
    whole.set(head);
    whole.set(body, head.length);
    chunks.push(["ANMF", whole]);
  }
  return new Blob([riff(chunks)], { type: "image/webp" });
}

/** A film, recorded while it plays. */
async function recorded(frames: readonly ImageBitmap[], milliseconds: number, type: string): Promise<Blob> {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [frames[0].width, frames[0].height];
  const context = canvas.getContext("2d") as CanvasRenderingContext2D;
  context.drawImage(frames[0], 0, 0);
  const stream = canvas.captureStream(0);
  const track = stream.getVideoTracks()[0] as CanvasCaptureMediaStreamTrack;
  const recorder = new MediaRecorder(stream, { mimeType: type, videoBitsPerSecond: 12e6 });
  const parts: Blob[] = [];
  const ended = new Promise<void>((resolve, reject) => {
    recorder.onstop = () => resolve();
    recorder.onerror = () => reject(new Error("The browser could not record the film. Choose another format."));
  });
  recorder.ondataavailable = ({ data }) => { if (data.size > 0) parts.push(data); };
  recorder.start();
  const began = performance.now();
  for (const [i, frame] of [...frames, frames[frames.length - 1]].entries()) {
    context.drawImage(frame, 0, 0);
    track.requestFrame();
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, began + (i + 1) * milliseconds - performance.now())));
  }
  recorder.stop();
  await ended;
  track.stop();
  const blob = new Blob(parts, { type: type.split(";")[0] });
  if (blob.size === 0) throw new Error("The browser could not record the film. Choose another format.");
  return blob;
}
