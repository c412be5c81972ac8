/** The model's files: fetched in chunks, kept in Cache Storage, compared with their hashes. */

import { checkIntact, InputError, sha256, type Model, type ModelFiles } from "edgekd-core";
import type { AppFacts } from "./messages";

const AT_ONCE = 4;
export const OWNER = "The owner of this page must upload it again.";

type Bytes = Uint8Array<ArrayBuffer>;

export class ModelStore implements ModelFiles {
  /** Whether everything that was read is kept on this device. */
  kept = true;

  /**
   * @param base folder of `model.json`, with a slash at its end
   * @param cache null: this browser keeps nothing
   * @param onBytes is told of every piece that is there, from the network or kept
   * @param onFile is told that a graph is whole, and about to be opened
   */
  constructor(
    private readonly base: string,
    private readonly model: Model,
    private readonly facts: AppFacts,
    private readonly cache: Cache | null,
    private readonly onBytes: (count: number) => void,
    private readonly onFile: () => void,
  ) {
    if (!cache) this.kept = false;
  }

  async read(path: string): Promise<Bytes> {
    const said = this.model.files[path];
    const names = this.facts.chunks[path];
    if (!said || !names) {
      throw new InputError("the bundle must list the whole model", `no ${path}`);
    }
    const chunks: Bytes[] = [];
    let next = 0;
    const worker = async (): Promise<void> => {
      for (let i = next++; i < names.length; i = next++) chunks[i] = await this.chunk(names[i]!);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    const whole = new Uint8Array(chunks.reduce((total, chunk) => total + chunk.length, 0));
    let at = 0;
    for (const chunk of chunks) {
      whole.set(chunk, at);
      at += chunk.length;
    }
    await checkIntact(this.model, path, whole, OWNER);
    if (path.endsWith(".onnx")) this.onFile();
    return whole;
  }

  /** Forgets kept chunks that this model has not: those of the one that was here before. */
  async tidy(): Promise<void> {
    const known = new Set(Object.values(this.facts.chunks).flat().map((name) => this.url(name)));
    for (const request of (await this.cache?.keys()) ?? []) {
      if (!known.has(request.url)) await this.cache?.delete(request);
    }
  }

  private url(name: string): string {
    return `${this.base}chunks/${name}`;
  }

  private async chunk(name: string): Promise<Bytes> {
    const url = this.url(name);
    const kept = await this.cache?.match(url);
    if (kept) {
      const bytes = new Uint8Array(await kept.arrayBuffer());
      if ((await sha256(bytes)) === name) {
        this.onBytes(bytes.length);
        return bytes;
      }
      await this.cache?.delete(url);
    }
    const bytes = await this.download(url);
    const found = await sha256(bytes);
    if (found !== name) {
      const rule = `chunk ${name.slice(0, 12)} of the model must have that hash`;
      throw new InputError(rule, found.slice(0, 12), OWNER);
    }
    await this.keep(url, bytes);
    return bytes;
  }

  private async download(url: string): Promise<Bytes> {
    let response: Response;
    try {
      response = await fetch(url, { cache: "no-store" });
    } catch {
      throw new InputError("the model must be reachable", "no network", "Try again later.");
    }
    if (!response.ok || !response.body) {
      const name = url.slice(url.lastIndexOf("/") + 1, -52);
      const rule = `chunk ${name} of the model must be there`;
      throw new InputError(rule, `status ${response.status}`, OWNER);
    }
    const pieces: Uint8Array[] = [];
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read().catch(() => {
        throw new InputError("the download must not break off", "it did", "Try again.");
      });
      if (done) break;
      pieces.push(value);
      this.onBytes(value.length);
    }
    return new Uint8Array(await new Blob(pieces as BlobPart[]).arrayBuffer());
  }

  private async keep(url: string, bytes: Bytes): Promise<void> {
    try {
      await this.cache?.put(url, new Response(bytes));
    } catch {
      this.kept = false; // no room: the next visit downloads it again
    }
  }
}

/** A place for chunks; null where the browser has none, or gives none (a private window). */
export async function openCache(base: string): Promise<Cache | null> {
  try {
    return await caches.open(`edgekd model ${base}`);
  } catch {
    return null;
  }
}
