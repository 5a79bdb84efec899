/** `?selftest`: golden vectors on this device, with figures; `?selftest=webgpu` on its graphics processor. */

import { element } from "./app.js";
import { LocalEngine } from "./local.js";
import type { Backend, TestLine } from "./messages.js";
import { readModels, testedName } from "./models.js";

function shown({ name, largest, allowed, milliseconds, told, toldAllowed }: TestLine): HTMLTableRowElement {
  const row = document.createElement("tr");
  const result = largest <= allowed ? "passed" : "failed";
  row.dataset["result"] = result;
  const number = (value: number): string => value.toExponential(1);
  const limit = toldAllowed ?? (told === undefined ? number(allowed) : "none");
  for (const text of [name, told ?? number(largest), limit, `${milliseconds.toFixed(0)} ms`, result]) {
    row.insertCell().textContent = text;
  }
  return row;
}

export async function showSelfTest(): Promise<void> {
  const backend: Backend = new URLSearchParams(location.search).get("selftest") === "webgpu" ? "webgpu" : "wasm";
  element("welcome").hidden = true;
  element("test").hidden = false;
  const result = element("test-result");
  const lines: TestLine[] = [];
  result.textContent = "Getting ready…";
  const engine = new LocalEngine(backend);
  try {
    if (backend === "webgpu" && !("gpu" in navigator)) throw new Error("This browser has no WebGPU.");
    await engine.start((done, whole) => { result.textContent = `Getting ready: ${Math.round(100 * done / whole)} %`; });
    result.textContent = "Testing…";
    await engine.test((line) => {
      lines.push(line);
      element("test-lines").append(shown(line));
    });
    const failed = lines.filter(({ largest, allowed }) => !(largest <= allowed));
    const passed = lines.length > 0 && failed.length === 0;
    if (backend === "webgpu") {
      localStorage.setItem("webgpu", passed ? testedName(await readModels(document.baseURI)) : "failed");
    }
    result.textContent = passed
      ? `Passed: all ${lines.length} agree. ${crossOriginIsolated ? "Threads are on." : "Threads are off."}`
      : `Failed: ${failed.length} of ${lines.length} differ. Do not trust pictures that this browser computes.`;
    result.dataset["result"] = passed ? "passed" : "failed";
  } catch (error) {
    if (backend === "webgpu") localStorage.setItem("webgpu", "failed");
    result.textContent = `Failed: ${error instanceof Error ? error.message : String(error)}`;
    result.dataset["result"] = "failed";
  } finally {
    engine.close();
  }
}
