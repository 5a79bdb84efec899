/** How the page is built: `npm run page`. The models come beside it, from `python -m deeplens.export.web_graphs`. */

import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { gzipSync } from "node:zlib";

import { defineConfig, type Plugin } from "vite";

const OUT = join(import.meta.dirname, "..", "src", "deeplens", "web_page");
const ORT = join(import.meta.dirname, "node_modules", "onnxruntime-web", "dist");

const HEIF = join(import.meta.dirname, "node_modules", "libheif-js", "libheif-wasm");

/** The photo behind "Try a sample". */
const SAMPLE = join(import.meta.dirname, "..", "samples", "drum.jpg");

/** The builds of ONNX Runtime Web that the page loads: on the processor, and on the graphics processor. */
const ENGINES = ["ort-wasm-simd-threaded", "ort-wasm-simd-threaded.asyncify"];

/** Puts ONNX Runtime beside the page, its WebAssembly packed: a static host may not pack it on the way. */
function engines(): Plugin {
  return {
    name: "deeplens-engines",
    writeBundle() {
      copyFileSync(SAMPLE, join(OUT, "sample.jpg"));
      const folder = join(OUT, "ort");
      mkdirSync(folder, { recursive: true });
      for (const name of ENGINES) {
        copyFileSync(join(ORT, `${name}.mjs`), join(folder, `${name}.mjs`));
        writeFileSync(join(folder, `${name}.wasm.gz`), gzipSync(readFileSync(join(ORT, `${name}.wasm`)), { level: 9 }));
      }
    },
  };
}

/** Puts the decoder of HEIC beside the page as it is, so that it can be replaced: its licence is LGPL. */
function heic(): Plugin {
  return {
    name: "deeplens-heic",
    writeBundle() {
      mkdirSync(join(OUT, "heif"), { recursive: true });
      for (const name of ["libheif-bundle.mjs", "LICENSE"]) copyFileSync(join(HEIF, name), join(OUT, "heif", name));
    },
  };
}

/** Packages without a program. */
const ONLY_TYPES = /^@types\/|^undici-types$/;

/** Says whose work the page holds. */
function licences(): Plugin {
  return {
    name: "deeplens-licences",
    writeBundle() {
      const lock = JSON.parse(readFileSync(join(import.meta.dirname, "package-lock.json"), "utf8")) as {
        packages: Record<string, { version: string; license?: string; dev?: boolean; integrity?: string }>;
      };
      const parts = ["What this page is built from, beside DeepLens itself (MIT).\n"];
      const listed: { name: string; version: string; license?: string | undefined; integrity?: string | undefined }[] = [];
      for (const [path, { version, license, dev, integrity }] of Object.entries(lock.packages)) {
        const folder = join(import.meta.dirname, path);
        if (!path || dev || !existsSync(folder)) continue;
        const name = path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length);
        if (!ONLY_TYPES.test(name)) listed.push({ name, version, license, integrity });
        const file = readdirSync(folder).find((name) => /^licen[cs]e/i.test(name));
        const text = file ? `\n${readFileSync(join(folder, file), "utf8").trim()}\n` : "";
        parts.push(`${path.replace("node_modules/", "")} ${version}: ${license ?? "see its licence"}\n${text}`);
      }
      parts.push("sample.jpg: Wine, © 2018 Jakub Mede, CC-BY-4.0, made smaller\n");
      writeFileSync(join(OUT, "licences.txt"), parts.join("\n"));
      writeFileSync(join(OUT, "packages.json"), `${JSON.stringify(listed, null, 2)}\n`); // for the bill of materials
    },
  };
}

/** Tells the service worker what the page consists of, under a name that changes with the content. */
function shell(): Plugin {
  return {
    name: "deeplens-shell",
    enforce: "post",
    writeBundle() {
      const all = (folder: string): string[] => readdirSync(folder).flatMap((name) => {
        const path = join(folder, name);
        return statSync(path).isDirectory() ? all(path) : [relative(OUT, path).replaceAll("\\", "/")];
      });
      const files = all(OUT).filter((file) => file !== "sw.js" && !file.startsWith("models/")).sort();
      const digest = createHash("sha256");
      for (const file of files) digest.update(file).update(readFileSync(join(OUT, file)));
      // The second engine, the decoder of HEIC and the sample are kept once they were asked for.
      const later = ["asyncify", "webgpu", "heif/", "sample.jpg", "licences.txt", "packages.json"];
      const first = files.filter((file) => !later.some((part) => file.includes(part)));
      const worker = join(OUT, "sw.js");
      const text = readFileSync(worker, "utf8")
        .replace("__VERSION__", digest.digest("hex").slice(0, 12))
        .replace('["__FILES__"]', JSON.stringify(["./", ...first]));
      writeFileSync(worker, text);
    },
  };
}

export default defineConfig({
  root: join(import.meta.dirname, "page"),
  base: "./",
  publicDir: join(import.meta.dirname, "page", "public"),
  resolve: { conditions: ["onnxruntime-web-use-extern-wasm", "module", "browser", "import", "default"] },
  build: {
    outDir: OUT,
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
  worker: { format: "es" },
  plugins: [engines(), heic(), licences(), shell()],
});
