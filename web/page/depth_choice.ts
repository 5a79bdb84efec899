/** The choice between the depth map that the phone put into a photo and the predicted one; remembered for each photo. */

import { element } from "./app.js";
import type { DepthSource } from "./engine.js";

const TOLD: Readonly<Record<DepthSource, string>> = {
  embedded: "Focus and blur follow the depth map that the phone put into the photo.",
  predicted: "Focus and blur follow the depth that is predicted from the picture.",
};

export class DepthChoice {
  private readonly chosen = new Map<string, DepthSource>();
  private readonly control = element("depth-choice");
  private photo = { key: "", embedded: false };

  /** `onChoice`: a person chose another source than `before`. */
  constructor(onChoice: (before: DepthSource) => void) {
    this.control.addEventListener("change", (event) => {
      const before = this.source;
      this.set((event.target as HTMLInputElement).value as DepthSource);
      if (this.source !== before) onChoice(before);
    });
  }

  /** Another photo: there is a choice where its file holds a map, which is used unless the other one was chosen. */
  open(photo: { readonly key: string; readonly embedded: boolean }): void {
    this.photo = photo;
    this.control.hidden = !photo.embedded;
    this.show();
  }

  get key(): string {
    return this.photo.key;
  }

  get source(): DepthSource {
    return this.photo.embedded ? this.chosen.get(this.photo.key) ?? "embedded" : "predicted";
  }

  set(source: DepthSource): void {
    this.chosen.set(this.photo.key, source);
    this.show();
  }

  private show(): void {
    this.control.querySelectorAll("input").forEach((one) => { one.checked = one.value === this.source; });
    element("depth-hint").textContent = TOLD[this.source];
  }
}
