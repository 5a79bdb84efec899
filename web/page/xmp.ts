/** The XMP packets of a JPEG: single properties, and the files that its container lists behind the photo. */

const STANDARD = "http://ns.adobe.com/xap/1.0/\0";
const EXTENDED = "http://ns.adobe.com/xmp/extension/\0";
const NOTE = "http://ns.adobe.com/xmp/note/";
/** Namespaces of an item of the container: Dynamic Depth 1.0, and what Google's cameras write since. */
const ITEM = ["http://ns.google.com/photos/dd/1.0/item/", "http://ns.google.com/photos/1.0/container/item/"];

export interface Item {
  readonly name: string;
  readonly length: number;
  readonly padding: number;
}

function text(data: Uint8Array): string {
  return new TextDecoder().decode(data);
}

function begins(data: Uint8Array, head: string): boolean {
  return data.length >= head.length && Array.from(head).every((letter, i) => data[i] === letter.charCodeAt(0));
}

function escaped(words: string): string {
  return words.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

/** A property of a packet, written as an attribute or as an element; null where there is none. */
function property(packet: string, namespace: string, name: string, within = packet): string | null {
  const prefixes = packet.matchAll(new RegExp(`xmlns:([\\w.-]+)\\s*=\\s*["']${escaped(namespace)}["']`, "g"));
  for (const [, prefix] of prefixes) {
    const full = `${escaped(prefix)}:${escaped(name)}`;
    const found = new RegExp(`[\\s"']${full}\\s*=\\s*(?:"([^"]*)"|'([^']*)')`).exec(within)
      ?? new RegExp(`<${full}(?:\\s[^>]*)?>([^<]*)</`).exec(within);
    const value = (found?.[1] ?? found?.[2])?.trim();
    if (value) return value;
  }
  return null;
}

export class Xmp {
  private readonly packets: string[] = [];

  /** `segments` are the contents of the APP1 segments. */
  constructor(segments: readonly Uint8Array[]) {
    const standard = segments.find((each) => begins(each, STANDARD));
    if (standard) this.packets.push(text(standard.subarray(STANDARD.length)));
    const parts = new Map<string, Map<number, Uint8Array>>();
    for (const each of segments.filter((one) => begins(one, EXTENDED) && one.length > EXTENDED.length + 40)) {
      const body = each.subarray(EXTENDED.length);
      const guid = text(body.subarray(0, 32));
      const at = new DataView(body.buffer, body.byteOffset).getUint32(36);
      parts.set(guid, (parts.get(guid) ?? new Map<number, Uint8Array>()).set(at, body.subarray(40)));
    }
    const wanted = parts.get(this.value(NOTE, "HasExtendedXMP") ?? "") ?? [...parts.values()][0];
    if (wanted) {
      this.packets.push([...wanted.entries()].sort(([a], [b]) => a - b).map(([, part]) => text(part)).join(""));
    }
  }

  value(namespace: string, name: string): string | null {
    for (const packet of this.packets) {
      const found = property(packet, namespace, name);
      if (found !== null) return found;
    }
    return null;
  }

  /** The files that are listed, the photo first. */
  items(): Item[] {
    return this.packets.flatMap((packet) => packet.split(/<rdf:li[\s>]/).slice(1).flatMap((entry) => {
      const said = (name: string): string | null =>
        ITEM.map((namespace) => property(packet, namespace, name, entry)).find((value) => value !== null) ?? null;
      if (said("Mime") === null) return [];
      const number = (name: string): number => Number(said(name) ?? 0);
      return [{ name: said("DataURI") ?? said("Semantic") ?? "", length: number("Length"), padding: number("Padding") }];
    }));
  }
}
