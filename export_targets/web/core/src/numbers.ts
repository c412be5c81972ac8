// Arithmetic as numpy does it, where plain JavaScript rounds differently.

/** The nearest single-precision number. */
export const f32 = Math.fround;

/** Nearest integer; halves go to the even one. */
export function roundEven(value: number): number {
  const below = Math.floor(value);
  const over = value - below;
  if (over !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}

/** `count` values from `start` to `stop`, both included. */
export function linspace(start: number, stop: number, count: number): Float64Array {
  const step = (stop - start) / (count - 1);
  const values = Float64Array.from({ length: count }, (_, i) => start + i * step);
  if (count > 1) values[count - 1] = stop;
  else values[0] = start;
  return values;
}
