/** The form: settings in, settings out, and what is wrong with them. */

import { byId, button, make } from "./dom.js";
import { EMPTY, complaint, limitPictures, number, sizesOf } from "./settings.js";
import { ordered, partnerOf } from "./speed.js";

const FIELDS = ["prompt", "model", "seed", "n", "size", "steps", "guidance_scale", "negative_prompt"];
const HIDDEN = ["guidance_scale", "negative_prompt"]; // until "more" is opened

export class Form {
  #form = byId("form");
  #cards = [];
  #focused = null; // before the drawing

  /** @param actions {draw(), cancel(), share(), chosen(cards)} */
  constructor(actions) {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      actions.draw();
    });
    const prompt = byId("prompt");
    prompt.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      actions.draw();
    });
    byId("random").onclick = () => {
      byId("seed").value = "";
      this.#complain("seed", "");
      byId("seed").focus();
    };
    byId("cancel").onclick = () => actions.cancel();
    byId("share").onclick = () => actions.share();
    for (const name of FIELDS) {
      byId(name).addEventListener("input", () => {
        // While one types, only what is too much is said.
        const text = byId(name).value;
        this.#complain(name, name === "prompt" && text === "" ? "" : complaint(name, text));
      });
    }
    for (const name of ["model", "compare"]) byId(name).addEventListener("change", () => this.#fit());
    this.actions = actions;
  }

  /** Offer the models that are served; what is chosen stays where it still can. */
  offer(cards) {
    const before = this.#cards.length ? this.read() : { compare: partnerOf(cards)?.id ?? "" };
    this.#cards = cards;
    const names = ordered(cards).map((card) => card.id);
    fill(byId("model"), names.map((name) => [name, name]), before.model);
    byId("model-field").hidden = byId("compare-field").hidden = cards.length < 2;
    this.#fit(before);
    const most = Math.min(...cards.map((card) => card.max_n));
    limitPictures(most);
    byId("n").max = most;
    const examples = [...new Set(cards.flatMap((card) => card.examples))].slice(0, 6);
    byId("examples").hidden = examples.length === 0;
    byId("examples").replaceChildren(
      ...examples.map((text) => button(text, () => this.#example(text), { className: "example" })),
    );
  }

  #example(text) {
    byId("prompt").value = text;
    this.#complain("prompt", "");
    byId("draw").focus();
  }

  /** Fields that depend on the models that are chosen. */
  #fit(before = this.read()) {
    const model = byId("model").value;
    const others = this.#cards.filter((card) => card.id !== model);
    fill(
      byId("compare"),
      [["", "no other"], ...others.map((card) => [card.id, card.id])],
      before.compare,
    );
    const cards = this.chosen();
    const own = [...new Set(cards.map((card) => card.size.replace("x", " × ")))];
    const offered = sizesOf(cards);
    if (offered.length && /^\d+x\d+$/.test(before.size) && !offered.includes(before.size)) {
      offered.push(before.size); // a link may name any
    }
    const sizes = offered.map((size) => [size, size.replace("x", " × ")]);
    fill(byId("size"), [["auto", own.length > 1 ? "each model's own" : own[0]], ...sizes], before.size);
    const each = (value) => [...new Set(cards.map(value))].join(" and ");
    byId("steps").placeholder = each((card) => card.steps);
    byId("guidance_scale").placeholder = each((card) => card.guidance_scale);
    const takers = cards.filter((card) => card.negative_prompt);
    byId("negative_prompt").disabled = takers.length === 0;
    byId("negative-help").textContent =
      takers.length === cards.length
        ? ""
        : takers.length
          ? `Only ${takers[0].id} takes one.`
          : "Models that were distilled with their guidance take none.";
    this.actions.chosen(cards);
  }

  /** Cards of the models that draw. */
  chosen() {
    const find = (id) => this.#cards.find((card) => card.id === id);
    return [find(byId("model").value), find(byId("compare").value)].filter(Boolean);
  }

  read() {
    const text = (name) => byId(name).value;
    return {
      prompt: text("prompt").trim(),
      negative_prompt: text("negative_prompt").trim(),
      model: text("model"),
      compare: text("compare"),
      size: text("size") || "auto",
      seed: number("seed", text("seed")),
      n: number("n", text("n")) ?? 1,
      steps: number("steps", text("steps")),
      guidance_scale: number("guidance_scale", text("guidance_scale")),
    };
  }

  /** Fill the form; returns names of models that are not served. */
  write(settings) {
    const wanted = { ...EMPTY, ...settings };
    for (const name of ["prompt", "negative_prompt", "seed", "n", "steps", "guidance_scale"]) {
      byId(name).value = wanted[name] ?? "";
      this.#complain(name, "");
    }
    const names = this.#cards.map((card) => card.id);
    const known = names.includes(wanted.model) ? wanted.model : ordered(this.#cards)[0].id;
    byId("model").value = known;
    this.#fit({ compare: wanted.compare, size: wanted.size });
    byId("more").open = HIDDEN.some((name) => wanted[name] !== EMPTY[name]);
    return [wanted.model, wanted.compare].filter((name) => name && !names.includes(name));
  }

  /** Whether all fields can be sent; else the first wrong one has the focus. */
  check() {
    const wrong = FIELDS.filter((name) => this.#complain(name, complaint(name, byId(name).value)));
    if (wrong.length) this.#focus(wrong[0]);
    return wrong.length === 0;
  }

  /** Show the server's complaint at its field; false where the form has no such field. */
  blame(name, message) {
    if (!FIELDS.includes(name)) return false;
    this.#complain(name, message);
    this.#focus(name);
    return true;
  }

  /** While it draws, the form says what is drawn. */
  busy(isBusy) {
    const hadFocus = this.#form.contains(document.activeElement);
    if (isBusy) this.#focused = hadFocus ? document.activeElement : null;
    byId("draw").hidden = isBusy;
    byId("cancel").hidden = !isBusy;
    byId("fields").disabled = isBusy;
    this.#form.setAttribute("aria-busy", String(isBusy));
    if (!hadFocus && document.activeElement !== document.body) return;
    if (isBusy) byId("cancel").focus({ preventScroll: true });
    else (this.#focused ?? byId("draw")).focus({ preventScroll: true });
  }

  #complain(name, message) {
    byId(`${name}-error`).textContent = message;
    if (message) byId(name).setAttribute("aria-invalid", "true");
    else byId(name).removeAttribute("aria-invalid");
    return message !== "";
  }

  #focus(name) {
    if (HIDDEN.includes(name)) byId("more").open = true;
    byId(name).focus();
  }
}

/** Replace a select's options; keep `wanted` where it is among them. */
function fill(select, options, wanted) {
  select.replaceChildren(...options.map(([value, text]) => make("option", { value }, text)));
  if (options.some(([value]) => value === wanted)) select.value = wanted;
}
