/** What the served models take, as the server measured it: the first thing that one sees. */

import { byId, make } from "./dom.js";
import { count, median, megabytes, relation, seconds } from "./text.js";

const SHOWN = 4;

/** The model to compare with: the one that draws slowest, where times are known. */
export function partnerOf(cards) {
  const [, ...others] = ordered(cards);
  const work = (card) => card.drawn_s ?? 0;
  return others.sort(
    (a, b) =>
      Number(b.id === "teacher") - Number(a.id === "teacher") ||
      work(b) - work(a) ||
      b.steps - a.steps,
  )[0];
}

/** The default model first. */
export const ordered = (cards) =>
  [...cards].sort((a, b) => Number(b.is_default) - Number(a.is_default));

/**
 * How the first model's time compares with its partner's, in each picture that both drew from one
 * seed as they are recommended: partner's seconds ÷ its own.
 */
export function ratiosOf(entries, cards) {
  const [first] = ordered(cards);
  const partner = partnerOf(cards);
  return entries.flatMap(({ pictures }) => {
    const [own, other] = [first, partner].map((card) =>
      pictures.find((one) => one.model === card?.id && isRecommended(one, card)),
    );
    return own && other ? [other.seconds / own.seconds] : [];
  });
}

const isRecommended = (picture, card) =>
  picture.steps === card.steps &&
  picture.guidance_scale === card.guidance_scale &&
  picture.size === card.size;

/** @param entries drawn since the server is known: only pairs of them are compared */
export function showSpeed(cards, entries) {
  const ratios = ratiosOf(entries, cards);
  const [first] = ordered(cards);
  const partner = partnerOf(cards);
  document.title = `edgekd: ${first.id}`;
  byId("claim").replaceChildren(...claim(first, partner, ratios));
  byId("reason").replaceChildren(...reason(first, partner, ratios.length));
  const rows = ordered(cards).slice(0, SHOWN);
  const most = Math.max(...rows.map((card) => card.drawn_s ?? 0));
  const list = byId("speed");
  list.hidden = false;
  list.replaceChildren(...rows.map((card) => row(card, most, card === first)));
}

function claim(first, partner, ratios) {
  const name = (card) => make("span", { className: "name" }, card.id);
  if (ratios.length) {
    const text = ` ${relation(1, median(ratios))} `;
    return [name(first), text, name(partner), "."];
  }
  if (partner) return ["What does ", name(first), " save against ", name(partner), "?"];
  if (first.drawn_s === null) return ["Draw pictures with ", name(first), "."];
  return [name(first), ` draws a picture in ${seconds(first.drawn_s)}.`];
}

function reason(first, partner, pairs) {
  const about = make(
    "span",
    { className: "about" },
    "edgekd distils a text-to-image model, the teacher, into a student that is small and fast " +
      "enough for a device. ",
  );
  if (!partner) return [about];
  if (pairs === 0) return [about, "Draw one picture with both, and this page compares their times."];
  const from = pairs === 1 ? "From 1 pair" : `The median of ${pairs} pairs`;
  return [
    about,
    `${from} that this page drew, one model right after the other. ` +
      "Bars: medians of all that this server drew last.",
  ];
}

function row(card, most, isFirst) {
  const bar = make("span", { className: isFirst ? "bar first" : "bar", "aria-hidden": "true" });
  bar.style.setProperty("--share", String(most > 0 ? (card.drawn_s ?? 0) / most : 0));
  const kind = `${card.runtime} ${card.precision}`;
  const about = `${count(card.steps, "step")} · ${megabytes(card.size_bytes)} · ${kind}`;
  return make(
    "li",
    {},
    make("b", {}, card.id),
    make("span", { className: "track" }, bar),
    card.drawn_s === null
      ? make("span", { className: "detail" }, "not measured yet")
      : make("span", { className: "time" }, seconds(card.drawn_s)),
    make("span", { className: "detail" }, about),
  );
}
