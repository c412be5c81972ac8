/** The pictures that are being drawn, or were drawn last. */

import { button, make } from "./dom.js";
import { altOf, caption, image, release } from "./pictures.js";
import { comparison, count } from "./text.js";

const TICK_MS = 100;

/** The place of one picture: it waits, is drawn, and is there. */
class Frame {
  #picture = make("div", { className: "picture" });
  #caption;
  #text = make("span", { className: "time" }, "waiting");
  #progress = make("progress", { max: 1 });
  #since = 0;
  #preview = null;

  constructor(entry, card, steps) {
    this.entry = entry;
    this.state = "waiting";
    this.#progress.setAttribute("aria-label", `Progress of ${card.id}`);
    const detail = make("span", { className: "detail" }, count(steps, "step"));
    this.#caption = make("figcaption", {}, make("b", { title: card.id }, card.id), this.#text, detail);
    const size = entry.settings.size === "auto" ? card.size : entry.settings.size;
    const [width, height] = size.split("x");
    this.element = make("figure", { className: "frame" }, this.#picture, this.#caption);
    this.element.style.setProperty("--ratio", `${width} / ${height}`);
  }

  start() {
    if (this.state !== "waiting") return;
    this.state = "drawing";
    this.#since = performance.now();
    this.#progress.removeAttribute("value");
    this.element.append(this.#progress);
    this.tick();
  }

  tick() {
    if (this.state !== "drawing") return;
    this.#text.textContent = `${((performance.now() - this.#since) / 1000).toFixed(1)} s`;
  }

  preview({ blob, step, steps }) {
    this.#progress.value = step / steps;
    this.#show(blob, `Preview after step ${step} of ${steps}`);
    this.element.classList.add("preview");
    if (this.#preview) release(this.#preview);
    this.#preview = blob;
  }

  finish(picture) {
    this.state = "done";
    this.#progress.remove();
    this.element.classList.remove("preview");
    this.#show(picture.blob, altOf(this.entry, picture));
    this.#caption.replaceWith((this.#caption = caption(this.entry, picture)));
    if (this.#preview) release(this.#preview);
  }

  /** It is not being drawn yet, or not any more, until `start`. */
  pause() {
    if (this.state !== "drawing") return;
    this.state = "waiting";
    this.#progress.remove();
    this.#text.textContent = "waiting";
  }

  stop() {
    if (this.state === "done") return;
    this.state = "stopped";
    this.#progress.remove();
    this.#text.textContent = "not drawn";
  }

  #show(blob, alt) {
    this.#picture.replaceChildren(image(blob, alt));
  }
}

export class Stage {
  #element;
  #frames = []; // [entry][model]
  #cards = [];
  #timer = 0;

  /** @param actions {open, vary, share}, each of an entry */
  constructor(element, actions) {
    this.#element = element;
    this.actions = actions;
  }

  /** Places for all pictures of a drawing. */
  begin(entries, cards, steps) {
    this.#frames = entries.map((entry) =>
      cards.map((card, index) => new Frame(entry, card, steps[index])),
    );
    this.#cards = entries.map((entry, index) => {
      const elements = this.#frames[index].map((frame) => frame.element);
      return make(
        "article",
        { className: "card", "aria-label": `Seed ${entry.settings.seed}` },
        make("div", { className: "frames" }, ...elements),
      );
    });
    this.#element.classList.toggle("pairs", cards.length > 1);
    this.#element.classList.toggle("one", entries.length === 1);
    this.#element.replaceChildren(...this.#cards);
    clearInterval(this.#timer);
    this.#timer = setInterval(() => this.#all((frame) => frame.tick()), TICK_MS);
  }

  start(model) {
    for (const frames of this.#frames) frames[model].start();
  }

  pause(model) {
    for (const frames of this.#frames) frames[model].pause();
  }

  preview(entry, model, event) {
    this.#frames[entry][model].preview(event);
  }

  finish(index, model, picture) {
    const frames = this.#frames[index];
    frames[model].finish(picture);
    if (frames.every((frame) => frame.state === "done")) this.#close(index, frames[model].entry);
  }

  /** The drawing is over, whatever is there. */
  end() {
    clearInterval(this.#timer);
    this.#all((frame) => frame.stop());
    this.#frames.forEach(([{ entry }], index) => this.#close(index, entry));
  }

  get #hasPictures() {
    return this.#frames.some(([{ entry }]) => entry.pictures.length > 0);
  }

  /** Where pictures will be, if there are none. */
  invite(cards) {
    if (this.#hasPictures) return;
    this.#frames = [];
    const names = cards.map((card) => card.id);
    const text =
      cards.length > 1
        ? `${names.join(" and ")} draw it from the same seed, one after the other.`
        : "It is drawn on the machine that serves this page.";
    const places = names.map((name) =>
      make("div", { className: "place", "aria-hidden": "true" }, make("span", {}, name)),
    );
    this.#element.classList.add("one");
    this.#element.classList.toggle("pairs", cards.length > 1);
    this.#element.replaceChildren(
      make("div", { className: "frames" }, ...places),
      make("p", { className: "help" }, "Say what to draw, or take an example: ", text),
    );
  }

  /** Remove what was deleted. */
  remove(id) {
    const index = this.#frames.findIndex(([frame]) => frame.entry.id === id);
    if (index >= 0) this.#cards[index].remove();
  }

  #all(action) {
    for (const frame of this.#frames.flat()) action(frame);
  }

  #close(index, entry) {
    const card = this.#cards[index];
    if (card.querySelector(".toolbar") || entry.pictures.length === 0) return;
    const { open, vary, share } = this.actions;
    const named = (text) => ({ "aria-label": `${text}, seed ${entry.settings.seed}` });
    card.append(
      make(
        "p",
        { className: "line" },
        make("span", { className: "seed" }, `seed ${entry.settings.seed}`),
        verdict(entry),
      ),
      make(
        "div",
        { className: "toolbar" },
        button("Variations", () => vary(entry), named("Variations")),
        button("Copy link", () => share(entry), named("Copy link")),
        button("Details", () => open(entry), named("Details")),
      ),
    );
  }
}

/** How the times of an entry's two pictures compare; null: it has one. */
export function verdict(entry) {
  const [first, second] = entry.pictures;
  if (!second) return null;
  const { isFaster, times } = comparison(first.seconds, second.seconds);
  const text = isFaster ? `${times} as fast` : times ? `takes ${times} as long` : "as fast";
  return make("span", { className: isFaster ? "verdict good" : "verdict" }, text);
}
