/** Numbers as people read them. */

const round = (value, digits) =>
  value.toLocaleString("en", {
    minimumSignificantDigits: digits,
    maximumSignificantDigits: digits,
    useGrouping: false,
  });

/** 0.043 → "43 ms", 1.26 → "1.3 s" */
export function seconds(value) {
  if (value < 0.9995) return `${round(Math.max(value, 0.0001) * 1000, 2)} ms`;
  return `${value < 99.5 ? round(value, 2) : Math.round(value)} s`;
}

/** How the first of two times compares with the second: {isFaster, times}, e.g. "3.1×" or "". */
export function comparison(first, second) {
  const ratio = second / first;
  if (ratio > 1.05) return { isFaster: true, times: `${round(ratio, 2)}×` };
  return { isFaster: false, times: ratio < 1 / 1.05 ? `${round(1 / ratio, 2)}×` : "" };
}

/** What stands between the names of two models: "draws 3.1× as fast as". */
export function relation(first, second) {
  const { isFaster, times } = comparison(first, second);
  if (isFaster) return `draws ${times} as fast as`;
  return times ? `takes ${times} as long as` : "is as fast as";
}

export const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

export const megabytes = (bytes) => `${round(bytes / 1e6, 3)} MB`;

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}
