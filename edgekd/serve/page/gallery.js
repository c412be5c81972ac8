/** The history as small pictures, newest first. */

import { byId, button, make } from "./dom.js";
import { altOf, image, release } from "./pictures.js";
import { count } from "./text.js";

const PAGE = 48;

/** Other entries with the very same settings and pictures. */
async function twins(entry, entries) {
  const settings = JSON.stringify(entry.settings);
  const alike = entries.filter(
    (one) =>
      one !== entry &&
      JSON.stringify(one.settings) === settings &&
      one.pictures.length === entry.pictures.length &&
      one.pictures.every(({ model, blob }, place) => {
        const other = entry.pictures[place];
        return model === other.model && blob.size === other.blob.size;
      }),
  );
  const found = [];
  for (const one of alike) {
    const equal = one.pictures.map(({ blob }, place) => same(blob, entry.pictures[place].blob));
    if ((await Promise.all(equal)).every(Boolean)) found.push(one);
  }
  return found;
}

async function same(one, other) {
  const [a, b] = await Promise.all([one, other].map(async (blob) => new Uint8Array(await blob.arrayBuffer())));
  return a.every((byte, place) => byte === b[place]);
}

export class Gallery {
  #list = byId("gallery");
  #older = byId("older");
  #clear = byId("clear");
  #help = byId("history-help");
  #shown = PAGE;
  #store;
  #removed = new WeakSet();
  entries = [];

  /**
   * @param store null where the browser keeps nothing: entries are then lost with the tab
   * @param actions {open, removed}, each of an entry
   */
  constructor(store, actions) {
    this.#store = store;
    this.actions = actions;
    this.#older.onclick = () => {
      const first = this.#shown;
      this.#shown += PAGE;
      this.#render();
      this.#list.children[first]?.querySelector("button").focus();
    };
    this.#clear.onclick = () => this.#confirm();
  }

  async load() {
    await this.#with(async (store) => {
      this.entries = await store.all();
    });
    this.#render();
  }

  /** Use the store; where it fails, it is full, or closed by another tab, it is given up. */
  async #with(action) {
    try {
      if (this.#store) await action(this.#store);
    } catch {
      this.#store = null;
      this.#tell();
    }
  }

  /** Show an entry, or what is new of it; one that was deleted in the midst of it stays so. */
  async keep(entry) {
    if (this.#removed.has(entry)) return;
    const index = this.entries.findIndex((one) => one.id === entry.id);
    if (index < 0) {
      const place = this.entries.filter((one) => one.when > entry.when).length;
      this.entries.splice(place, 0, entry);
      this.#list.insertBefore(this.#item(entry), this.#list.children[place] ?? null);
      while (this.#list.children.length > this.#shown) this.#list.lastElementChild.remove();
    } else {
      this.#list.children[index]?.replaceWith(this.#item(entry));
    }
    this.#tell();
    await this.#with((store) => store.put(entry));
    for (const twin of await twins(entry, this.entries)) await this.remove(twin);
  }

  async remove(entry) {
    this.#removed.add(entry);
    // First: what is no longer shown is gone for good, also after a reload at once.
    await this.#with((store) => store.delete(entry.id));
    const index = this.entries.findIndex((one) => one.id === entry.id);
    if (index < 0) return;
    const hadFocus = this.#list.children[index]?.contains(document.activeElement);
    this.entries.splice(index, 1);
    this.#render();
    if (hadFocus) this.#focusNear(index);
    entry.pictures.forEach((picture) => release(picture.blob));
    this.actions.removed(entry);
  }

  #focusNear(index) {
    const item = this.#list.children[Math.min(index, this.#list.children.length - 1)];
    (item?.querySelector(".delete") ?? byId("prompt")).focus();
  }

  async #confirm() {
    const dialog = byId("confirm");
    const text = count(this.entries.length, "entry", "entries");
    byId("confirm-text").textContent = `${text} will be deleted from this browser for good.`;
    dialog.returnValue = "no";
    dialog.showModal();
    await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
    if (dialog.returnValue !== "yes") return;
    const gone = this.entries.splice(0);
    gone.forEach((entry) => this.#removed.add(entry));
    await this.#with((store) => store.clear());
    this.#shown = PAGE;
    this.#render();
    gone.forEach((entry) => this.actions.removed(entry));
    gone.flatMap((entry) => entry.pictures).forEach((picture) => release(picture.blob));
    byId("prompt").focus();
  }

  #render() {
    this.#list.replaceChildren(...this.entries.slice(0, this.#shown).map((one) => this.#item(one)));
    this.#tell();
  }

  #tell() {
    const number = this.entries.length;
    this.#clear.hidden = number === 0;
    this.#older.hidden = number <= this.#shown;
    const kept = this.#store
      ? "kept in this browser until you delete them"
      : "this browser keeps no more of them: they are lost with this tab";
    this.#help.textContent = number
      ? `${count(number, "entry", "entries")}, ${kept}.`
      : `Nothing yet. Pictures are ${kept}.`;
  }

  #item(entry) {
    const { prompt, seed } = entry.settings;
    const name = `“${prompt}”, seed ${seed}`;
    const pictures = entry.pictures.map((picture) => image(picture.blob, altOf(entry, picture)));
    return make(
      "li",
      {},
      make(
        "button",
        {
          type: "button",
          className: pictures.length > 1 ? "thumb pair" : "thumb",
          title: name,
          "aria-label": `Open ${name}`,
          onclick: () => this.actions.open(entry),
        },
        ...pictures,
      ),
      button("×", () => this.remove(entry), { className: "delete", "aria-label": `Delete ${name}` }),
    );
  }
}
