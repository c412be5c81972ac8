/** One entry of the history, large, with all that is known of it. */

import { byId, button, make } from "./dom.js";
import { figure } from "./pictures.js";
import { verdict } from "./stage.js";
import { seconds } from "./text.js";

const LONG = 90; // letters of a prompt that the title may cut

export class Viewer {
  #dialog = byId("viewer");
  #title = make("h2", { id: "viewer-title" });
  #frames = make("div", { className: "frames" });
  #facts = make("dl", { className: "facts" });
  #newer = button("Newer", () => this.#go(-1));
  #older = button("Older", () => this.#go(1));
  #entry = null;

  /**
   * @param entries the history's, newest first
   * @param actions {vary, use, share, remove}, each of an entry
   */
  constructor(entries, actions) {
    this.entries = entries;
    const act = (text, action, properties) =>
      button(text, () => {
        if (action !== actions.share) this.#dialog.close();
        action(this.#entry);
      }, properties);
    this.#dialog.append(
      make(
        "div",
        { className: "title" },
        this.#title,
        button("Close", () => this.#dialog.close(), { className: "quiet" }),
      ),
      this.#frames,
      this.#facts,
      make(
        "div",
        { className: "actions" },
        act("Variations", actions.vary, { className: "primary" }),
        act("Use these settings", actions.use),
        act("Copy link", actions.share),
        act("Delete", actions.remove, { className: "danger" }),
        make("span", { className: "spring" }),
        this.#newer,
        this.#older,
      ),
    );
    this.#dialog.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") this.#go(-1);
      if (event.key === "ArrowRight") this.#go(1);
    });
    this.#dialog.addEventListener("click", (event) => {
      if (event.target === this.#dialog) this.#dialog.close(); // beside it
    });
  }

  open(entry) {
    this.#show(entry);
    this.#dialog.showModal();
  }

  #go(step) {
    const next = this.entries()[this.#place() + step];
    if (next) this.#show(next);
  }

  #place() {
    return this.entries().findIndex((one) => one.id === this.#entry.id);
  }

  #show(entry) {
    this.#entry = entry;
    this.#title.textContent = entry.settings.prompt;
    this.#frames.replaceChildren(...entry.pictures.map((picture) => figure(entry, picture)));
    this.#frames.classList.toggle("pair", entry.pictures.length > 1);
    this.#facts.replaceChildren(...facts(entry).flatMap(([term, value]) => [
      make("dt", {}, term),
      make("dd", {}, value),
    ]));
    const place = this.#place();
    this.#newer.disabled = place <= 0;
    this.#older.disabled = place < 0 || place >= this.entries().length - 1;
    if (document.activeElement === document.body) this.#title.focus();
  }
}

/** A value once where all pictures have it, else each one's. */
function same(pictures, value) {
  const values = pictures.map((one) => value(one) ?? "the model's own");
  if (new Set(values).size === 1) return String(values[0]);
  return pictures.map((one, index) => `${one.model} ${values[index]}`).join(", ");
}

function facts(entry) {
  const { settings, pictures, when } = entry;
  const each = (value) => pictures.map((one) => `${one.model} ${value(one)}`).join(", ");
  const speed = verdict(entry);
  return [
    settings.prompt.length > LONG ? ["Prompt", settings.prompt] : null,
    ["Seed", String(settings.seed)],
    ["Steps", each((one) => one.steps)],
    ["Size", same(pictures, (one) => one.size?.replace("x", " × "))],
    ["Guidance", same(pictures, (one) => one.guidance_scale)],
    ["Sampler", same(pictures, (one) => one.sampler)],
    settings.negative_prompt ? ["Negative prompt", settings.negative_prompt] : null,
    ["Drawn in", each((one) => seconds(one.seconds))],
    speed ? [`${pictures[0].model} is`, speed] : null,
    ["Waited", each((one) => seconds(one.waited))],
    ["When", new Date(when).toLocaleString()],
  ].filter((row) => row !== null);
}
