/**
 * What a person asks for: {prompt, negative_prompt, model, compare, seed, n, size, steps,
 * guidance_scale}. Empty texts and nulls are the model's own, or for the seed a random one;
 * `compare` is the second model, or "".
 */

export const MAX_PROMPT = 4000; // letters, as the API takes them
export const MAX_SEED = 2 ** 53 - 1; // as the API takes them
const TEXTS = ["prompt", "negative_prompt", "model", "compare", "size"];
const NUMBERS = {
  seed: [0, MAX_SEED, true],
  n: [1, 10, true],
  steps: [1, 1000, true],
  guidance_scale: [0, 1000, false],
};

export const EMPTY = {
  prompt: "",
  negative_prompt: "",
  model: "",
  compare: "",
  seed: null,
  n: 1,
  size: "auto",
  steps: null,
  guidance_scale: null,
};

/** An address of this page with all settings; behind `#`, so that no log of a server has it. */
export function linkTo(settings) {
  const values = new URLSearchParams();
  for (const [name, value] of Object.entries(settings)) {
    if (name in EMPTY && value !== null && value !== "" && value !== EMPTY[name]) {
      values.set(name, value);
    }
  }
  const address = new URL(location.href);
  address.hash = values.toString();
  return address.href;
}

/** The settings in an address, or null; what is no setting or out of range is left out. */
export function fromLink(hash) {
  const values = new URLSearchParams(hash.replace(/^#/, ""));
  const found = { ...EMPTY };
  let isAny = false;
  for (const name of [...TEXTS, ...Object.keys(NUMBERS)]) {
    const text = values.get(name);
    if (text === null) continue;
    const value = name in NUMBERS ? number(name, text) : text;
    if (value === null || (name === "size" && !/^(auto|\d{1,5}x\d{1,5})$/.test(text))) continue;
    found[name] = value;
    isAny = true;
  }
  return isAny ? found : null;
}

/** How many pictures the server draws for one request. */
export function limitPictures(most) {
  NUMBERS.n[1] = most;
}

/** A field's number, or null where it is empty or wrong. */
export function number(name, text) {
  const [low, high, isWhole] = NUMBERS[name];
  const value = text.trim() === "" ? Number.NaN : Number(text);
  const fits = value >= low && value <= high && (!isWhole || Number.isInteger(value));
  return fits ? value : null;
}

/** What is wrong with a field, or "". */
export function complaint(name, text) {
  if (name === "prompt" && text.trim() === "") return "Say what to draw.";
  if (name === "prompt" || name === "negative_prompt") {
    const length = [...text].length;
    return length > MAX_PROMPT ? `${length} letters are too many: at most ${MAX_PROMPT}.` : "";
  }
  if (!(name in NUMBERS) || text.trim() === "" || number(name, text) !== null) return "";
  const [low, high, isWhole] = NUMBERS[name];
  return `${isWhole ? "A whole number" : "A number"} from ${low} to ${high}.`;
}

export const randomSeed = () => crypto.getRandomValues(new Uint32Array(1))[0];

/** The body of a request to one model. */
export function requestOf(settings, card) {
  const body = { model: card.id, prompt: settings.prompt, n: settings.n, seed: settings.seed };
  if (settings.size !== "auto") body.size = settings.size;
  if (settings.steps !== null) body.steps = settings.steps;
  if (settings.guidance_scale !== null) body.guidance_scale = settings.guidance_scale;
  if (settings.negative_prompt && card.negative_prompt) {
    body.negative_prompt = settings.negative_prompt;
  }
  return body;
}

/** Sizes to offer for all of these models: the model's own, wide, tall and large. */
export function sizesOf(cards) {
  const multiples = cards.map((card) => Number(/^multiple of (\d+)$/.exec(card.sizes)?.[1] ?? 0));
  if (multiples.includes(0)) return [];
  const multiple = multiples.reduce(leastCommon);
  const most = Math.min(...cards.map((card) => card.max_pixels));
  const [width, height] = cards[0].size.split("x").map(Number);
  const fit = (side) => Math.max(1, Math.round(side / multiple)) * multiple;
  const root = Math.sqrt(1.5);
  const sides = [
    [width, height],
    [width * root, height / root],
    [width / root, height * root],
    [width * 1.5, height * 1.5],
  ].map(([w, h]) => [fit(w), fit(h)]);
  const texts = sides.filter(([w, h]) => w * h <= most).map(([w, h]) => `${w}x${h}`);
  const own = new Set(cards.map((card) => card.size));
  return [...new Set(texts)].filter((text) => own.size > 1 || !own.has(text));
}

function leastCommon(a, b) {
  let [x, y] = [a, b];
  while (y) [x, y] = [y, x % y];
  return (a / x) * b;
}
