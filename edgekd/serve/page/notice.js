/** What went wrong, and what one can do about it. */

import { byId, button } from "./dom.js";

const SECOND_MS = 1000;

export class Notice {
  #element = byId("notice");

  /** @param actions [[text, function], …] become buttons */
  show(text, actions = []) {
    const buttons = actions.map(([name, act]) => button(name, act));
    this.#element.replaceChildren(text, " ", ...buttons);
    this.#element.hidden = false;
    this.#element.scrollIntoView({ block: "nearest" });
  }

  hide() {
    this.#element.hidden = true;
    this.#element.replaceChildren();
  }

  /** Count down, then hide; rejects as soon as the signal does. */
  countDown(text, seconds, signal) {
    const until = performance.now() + seconds * SECOND_MS;
    return new Promise((resolve, reject) => {
      const left = document.createElement("span");
      left.setAttribute("aria-live", "off"); // or each second would be read out
      const tell = () => {
        const rest = Math.max(0, Math.ceil((until - performance.now()) / SECOND_MS));
        left.textContent = `Trying again in ${rest} s.`;
        if (rest === 0) end(resolve);
      };
      const timer = setInterval(tell, SECOND_MS / 4);
      const stop = () => end(() => reject(signal.reason));
      const end = (settle) => {
        clearInterval(timer);
        signal.removeEventListener("abort", stop);
        this.hide();
        settle();
      };
      signal.addEventListener("abort", stop);
      this.#element.replaceChildren(text, " ", left, " ", button("Try now", () => end(resolve)));
      this.#element.hidden = false;
      tell();
    });
  }
}
