/**
 * The noise of `torch.randn` on a CPU: the same seed starts the same picture as in Python.
 *
 * torch fills a tensor of 16 values or more in blocks of 16: uniforms of 24 bits from a Mersenne
 * Twister, the first eight of a block paired with the last eight by the transform of Box and Muller
 * (1958). A tensor whose size is no multiple of 16 has its last 16 values drawn anew. Smaller
 * tensors take the same transform in double precision, two values for each pair of uniforms, one of
 * them kept for the next call.
 */

import { InputError } from "./errors";
import { f32 } from "./numbers";

const BLOCK = 16;
const TWO_PI = f32(2 * Math.PI);
const SEEDS = 2n ** 64n;

/** Matsumoto and Nishimura, "Mersenne Twister" (1998): MT19937 as it is seeded with one word. */
class MersenneTwister {
  private readonly state = new Uint32Array(624);
  private next = 624;

  constructor(seed: number) {
    const { state } = this;
    state[0] = seed;
    for (let i = 1; i < 624; i++) {
      const before = state[i - 1]! ^ (state[i - 1]! >>> 30);
      state[i] = Math.imul(1812433253, before) + i;
    }
  }

  /** 32 random bits. */
  word(): number {
    if (this.next === 624) this.twist();
    let y = this.state[this.next++]!;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  private twist(): void {
    const { state } = this;
    for (let i = 0; i < 624; i++) {
      const y = (state[i]! & 0x80000000) | (state[(i + 1) % 624]! & 0x7fffffff);
      state[i] = state[(i + 397) % 624]! ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.next = 0;
  }
}

/** What `torch.Generator().manual_seed(seed)` is to torch's CPU kernels. */
export class TorchGenerator {
  private readonly engine: MersenneTwister;
  private spare: number | null = null;

  /** @param seed 0 to 2^64 - 1; as in torch, its low 32 bits decide. */
  constructor(seed: number | bigint) {
    if (typeof seed === "number" && !Number.isSafeInteger(seed)) {
      throw new InputError("`seed` must be a whole number", String(seed));
    }
    const whole = BigInt(seed);
    if (whole < 0n || whole >= SEEDS) {
      throw new InputError("`0 <= seed < 2**64` must hold", `seed=${seed}`);
    }
    this.engine = new MersenneTwister(Number(whole & 0xffffffffn));
  }

  /** `size` standard normal values. */
  randn(size: number): Float32Array {
    if (size < BLOCK) return Float32Array.from({ length: size }, () => this.one());
    const values = this.uniforms(size);
    for (let at = 0; at + BLOCK <= size; at += BLOCK) boxMuller(values.subarray(at, at + BLOCK));
    if (size % BLOCK) {
      const last = this.uniforms(BLOCK);
      boxMuller(last);
      values.set(last, size - BLOCK);
    }
    return values;
  }

  /** 24 bits of each word, in [0, 1). */
  private uniforms(count: number): Float32Array {
    return Float32Array.from({ length: count }, () => (this.engine.word() & 0xffffff) * 2 ** -24);
  }

  private one(): number {
    if (this.spare !== null) {
      const kept = this.spare;
      this.spare = null;
      return kept;
    }
    const angle = 2 * Math.PI * this.double();
    const radius = Math.sqrt(-2 * Math.log1p(-this.double()));
    this.spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** 53 bits of two words, in [0, 1). */
  private double(): number {
    const high = this.engine.word() & 0x1fffff;
    return (high * 2 ** 32 + this.engine.word()) * 2 ** -53;
  }
}

/** 16 uniforms -> 16 normals, in place: eight cosines, then their eight sines. */
function boxMuller(block: Float32Array): void {
  for (let j = 0; j < BLOCK / 2; j++) {
    // Rounded to single precision where torch rounds.
    const angle = f32(TWO_PI * block[j + 8]!);
    const radius = f32(Math.sqrt(-2 * f32(Math.log(f32(1 - block[j]!)))));
    block[j] = radius * f32(Math.cos(angle));
    block[j + 8] = radius * f32(Math.sin(angle));
  }
}
