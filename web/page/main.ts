/** Where the page begins: finds out who computes, gets ready, and takes photos in. */

import { App, element } from "./app.js";
import { Cancelled, type Engine, type PhotoInfo } from "./engine.js";
import { LocalEngine } from "./local.js";
import { findMachine, MachineEngine, type About } from "./machine.js";
import { readModels, testedName } from "./models.js";

/** Of the sample photo: see samples/README.md. */
const CREDIT = "Photo: Wine, © 2018 Jakub Mede, CC-BY-4.0, made smaller.";

const wish = new URLSearchParams(location.search);

/** Keeps the page for later and gives it threads; reloads once on a host that does not isolate it. */
async function keep(): Promise<void> {
  if (!("serviceWorker" in navigator) || !isSecureContext) return;
  try {
    await navigator.serviceWorker.register("./sw.js");
    await navigator.serviceWorker.ready;
  } catch {
    return; // private windows refuse; the page works without
  }
  if (!crossOriginIsolated && !sessionStorage.getItem("isolated")) {
    sessionStorage.setItem("isolated", "tried");
    location.reload();
    await new Promise(() => undefined);
  }
}

class Page {
  private readonly app = new App();
  private readonly engines = new Map<string, { engine: Engine; ready: Promise<void> }>();
  private last: { readonly file: Blob; readonly name: string } | null = null;
  private current: Engine | null = null;
  private asked = 0;

  constructor(private readonly about: About | null) {
    this.listen();
    this.offer();
    void this.engine().ready.catch((error) => this.app.fail(error));
  }

  /** The engine that was chosen; it is started the first time. */
  private engine(): { engine: Engine; ready: Promise<void> } {
    const choice = element<HTMLSelectElement>("engine").value;
    const runtime = choice.startsWith("machine:") ? choice.slice("machine:".length) : null;
    const key = runtime === null ? choice : "machine";
    let found = this.engines.get(key);
    if (!found) {
      const engine = runtime !== null && this.about
        ? new MachineEngine(this.about)
        : new LocalEngine(choice === "webgpu" ? "webgpu" : "wasm");
      const loading = element("loading");
      const ready = engine.start((done, whole) => {
        const text = `Getting ready: ${(done / 1e6).toFixed(1)} of ${(whole / 1e6).toFixed(1)} MB`;
        if (loading.textContent !== text) loading.textContent = text;
      });
      found = { engine, ready };
      this.engines.set(key, found);
      ready.then(() => { loading.textContent = "Ready."; }, () => {
        loading.textContent = "";
        this.engines.delete(key); // so that it can be tried again
      });
    }
    if (found.engine instanceof MachineEngine && runtime !== null) found.engine.runtime = runtime;
    return found;
  }

  /** Who can compute. */
  private offer(): void {
    const select = element<HTMLSelectElement>("engine");
    const option = (value: string, text: string): HTMLOptionElement => new Option(text, value);
    const runtimes = this.about?.runtimes ?? [];
    const named = (name: string): string => (runtimes.length > 1 ? `This machine, ${name}` : "This machine");
    select.replaceChildren(
      ...runtimes.map((name) => option(`machine:${name}`, named(name))), option("wasm", "This browser"),
    );
    if (this.about) {
      select.value = `machine:${this.about.runtime}`;
      element("privacy").textContent = "The photo stays on this machine.";
    }
    element("where").hidden = select.options.length < 2;
    void this.offerGpu(select);
    element("given").replaceChildren(...(this.about?.photos ?? []).map(({ photo, name }) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.addEventListener("click", () => {
        select.value = `machine:${this.about?.runtime}`; // which has the photo
        void this.open((engine) => (engine as MachineEngine).openGiven(photo), name, photo).then((opened) => {
          if (opened) this.last = null;
        });
      });
      return button;
    }));
  }

  /** The graphics processor, where the golden vectors of these very models have passed on it. */
  private async offerGpu(select: HTMLSelectElement): Promise<void> {
    const passed = localStorage.getItem("webgpu");
    if (!passed || passed !== testedName(await readModels(document.baseURI))) return;
    select.append(new Option("This browser, graphics processor", "webgpu"));
    element("where").hidden = false;
  }

  /** Another engine was chosen: it gets the photo that is open. */
  private async changed(): Promise<void> {
    const before = this.current;
    const { engine, ready } = this.engine();
    try {
      await ready;
      if (!before) return;
      if (engine === before) {
        this.app.again();
        return;
      }
      if (!this.last && before instanceof MachineEngine) this.last = await before.file();
      if (!this.last) return;
      before.cancel();
      const { file, name } = this.last;
      await this.open((chosen) => chosen.open(file, name), name, null);
    } catch (error) {
      this.app.fail(error);
    } finally {
      if (before && this.current === before && engine !== before) this.backTo(before);
    }
  }

  /** The engine that was chosen could not take the photo: the choice shows again who computes. */
  private backTo(engine: Engine): void {
    const key = [...this.engines].find(([, one]) => one.engine === engine)?.[0];
    if (key === undefined) return;
    element<HTMLSelectElement>("engine").value = engine instanceof MachineEngine ? `machine:${engine.runtime}` : key;
    this.app.again(); // what was at work was ended
  }

  private async take(file: File, credit: readonly string[] = []): Promise<void> {
    const name = file.name || "photo.jpg";
    const opened = await this.open(async (engine) => {
      const info = await engine.open(file, name);
      return { ...info, notes: [...info.notes, ...credit] };
    }, name, `${name}/${file.size}`);
    if (opened) this.last = { file, name };
  }

  /** Whether it was opened. `key` tells photos apart; null: it is the one that is open, for another engine. */
  private async open(how: (engine: Engine) => Promise<PhotoInfo>, name: string, key: string | null): Promise<boolean> {
    const mine = ++this.asked;
    element("error").hidden = true;
    const told = element("welcome").hidden ? (text: string) => this.app.say(text) : (text: string) => {
      element("loading").textContent = text;
    };
    const { engine, ready } = this.engine();
    try {
      await ready;
      told(`Opening ${name} and finding its depth…`);
      const info = await how(engine);
      if (mine !== this.asked) return false;
      this.current = engine;
      await this.app.opened(engine, info, key);
      return true;
    } catch (error) {
      if (!(error instanceof Cancelled)) {
        told("");
        this.app.fail(error);
      }
      return false;
    }
  }

  private listen(): void {
    const file = element<HTMLInputElement>("file");
    const camera = element<HTMLInputElement>("camera");
    for (const input of [file, camera]) {
      input.addEventListener("change", () => {
        if (input.files?.[0]) void this.take(input.files[0]);
        input.value = "";
      });
    }
    element("choose").addEventListener("click", () => file.click());
    element("another").addEventListener("click", () => file.click());
    element("take").addEventListener("click", () => camera.click());
    element("take").hidden = !matchMedia("(pointer: coarse)").matches;
    element("sample").addEventListener("click", () => void this.sample());
    element("engine").addEventListener("change", () => void this.changed());
    element("error").querySelector("button")?.addEventListener("click", () => { element("error").hidden = true; });

    const over = (event: DragEvent, on: boolean): void => {
      event.preventDefault();
      document.body.classList.toggle("over", on);
    };
    addEventListener("dragover", (event) => over(event, true));
    addEventListener("dragleave", (event) => { if (!event.relatedTarget) over(event, false); });
    addEventListener("drop", (event) => {
      over(event, false);
      this.received(event.dataTransfer);
    });
    addEventListener("paste", (event) => { if (event.clipboardData?.files.length) this.received(event.clipboardData); });
  }

  private received(data: DataTransfer | null): void {
    const file = data?.files[0];
    if (!file) this.app.fail(new Error("That was not a file. Drop a photo from a folder."));
    else void this.take(file);
  }

  private async sample(): Promise<void> {
    try {
      const response = await fetch("./sample.jpg");
      if (!response.ok) throw new Error("The sample photo is missing on the server.");
      await this.take(new File([await response.blob()], "sample.jpg", { type: "image/jpeg" }), [CREDIT]);
    } catch (error) {
      this.app.fail(error);
    }
  }
}

async function main(): Promise<void> {
  if (wish.has("drive")) {
    await import("./drive.js");
    return;
  }
  const about = await findMachine();
  if (!about) await keep();
  if (wish.has("selftest")) {
    const { showSelfTest } = await import("./testpage.js");
    await showSelfTest();
    return;
  }
  new Page(about);
}

void main();
