/** Pictures on the page: their addresses, files and captions. */

import { make } from "./dom.js";
import { count, seconds } from "./text.js";

const addresses = new WeakMap(); // blob -> blob: address

/** The address under which this page shows a blob; made once. */
export function addressOf(blob) {
  if (!addresses.has(blob)) addresses.set(blob, URL.createObjectURL(blob));
  return addresses.get(blob);
}

/** Free what a blob's address holds. */
export function release(blob) {
  if (addresses.has(blob)) URL.revokeObjectURL(addresses.get(blob));
  addresses.delete(blob);
}

/** An image whose few pixels stay sharp when it is shown larger. */
export function image(blob, alt) {
  const shown = make("img", { alt, decoding: "async" });
  shown.addEventListener("load", () => {
    shown.classList.toggle("pixels", shown.naturalWidth < 200);
  });
  shown.src = addressOf(blob);
  return shown;
}

export const altOf = (entry, picture) => `“${entry.settings.prompt}”, drawn by ${picture.model}`;

/** The model, what it did, and a link that saves the picture. */
export function caption(entry, picture) {
  const kind = picture.blob.type.split("/")[1];
  const name = fileName(entry, picture, kind);
  return make(
    "figcaption",
    {},
    make("b", { title: picture.model }, picture.model),
    make("span", { className: "time" }, seconds(picture.seconds)),
    make("span", { className: "detail" }, count(picture.steps, "step")),
    make(
      "a",
      {
        href: addressOf(picture.blob),
        download: name,
        "aria-label": `Download the picture of ${picture.model}, seed ${entry.settings.seed}`,
      },
      "Download",
    ),
  );
}

export function figure(entry, picture) {
  return make(
    "figure",
    { className: "frame" },
    make("div", { className: "picture" }, image(picture.blob, altOf(entry, picture))),
    caption(entry, picture),
  );
}

function fileName(entry, picture, kind) {
  const words = entry.settings.prompt.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? ["picture"];
  return `${words.join("-").slice(0, 60)}-${picture.model}-${entry.settings.seed}.${kind}`;
}
