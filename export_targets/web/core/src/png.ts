/**
 * PNG files without a picture library, with the settings of a picture as text in them.
 *
 * Format: W3C, Portable Network Graphics Specification (Third Edition), sections 5, 9 and 11.3.
 */

import type { ModelSummary, Picture, Request } from "./types";

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/** @param texts textual data by keyword (section 11.3.3.4, UTF-8). */
export async function encodePng(
  picture: Picture,
  texts: Record<string, string> = {},
): Promise<Uint8Array<ArrayBuffer>> {
  const { width, height, pixels } = picture;
  // Every line begins with its filter's number; 0 is no filter.
  const lines = new Uint8Array(height * (1 + 3 * width));
  for (let y = 0; y < height; y++) {
    const line = pixels.subarray(y * 3 * width, (y + 1) * 3 * width);
    lines.set(line, y * (1 + 3 * width) + 1);
  }
  const header = new Uint8Array(13);
  new DataView(header.buffer).setUint32(0, width);
  new DataView(header.buffer).setUint32(4, height);
  header.set([8, 2, 0, 0, 0], 8); // 8 bits, RGB, not interlaced
  const written = Object.entries(texts).map(([keyword, text]) =>
    // No compression, no language.
    chunk("iTXt", new TextEncoder().encode(`${keyword}\0\0\0\0\0${text}`)),
  );
  const data = await deflate(lines);
  return joined([
    Uint8Array.from(SIGNATURE),
    chunk("IHDR", header),
    ...written,
    chunk("IDAT", data),
    chunk("IEND", new Uint8Array()),
  ]);
}

/**
 * What draws a picture again, for its PNG file: one JSON object. The prompt is not in it: pictures
 * are passed on by people who may not want to pass on what they wrote.
 */
export function pictureTexts(model: ModelSummary, request: Request): Record<string, string> {
  const { generation, scheduler } = model;
  const width = request.width ?? generation.width;
  const height = request.height ?? generation.height;
  const parameters = {
    model: model.name,
    seed: typeof request.seed === "bigint" ? String(request.seed) : (request.seed ?? 0),
    steps: request.steps ?? generation.steps,
    guidance_scale: request.guidanceScale ?? generation.guidance_scale,
    sampler: scheduler.name,
    size: `${width}x${height}`,
  };
  return { parameters: JSON.stringify(parameters) };
}

async function deflate(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function chunk(kind: string, body: Uint8Array): Uint8Array<ArrayBuffer> {
  const named = joined([new TextEncoder().encode(kind), body]);
  const [length, check] = [new DataView(new ArrayBuffer(4)), new DataView(new ArrayBuffer(4))];
  length.setUint32(0, body.length);
  check.setUint32(0, crc32(named));
  return joined([new Uint8Array(length.buffer), named, new Uint8Array(check.buffer)]);
}

function crc32(bytes: Uint8Array): number {
  let sum = ~0;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}

function joined(pieces: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(pieces.reduce((total, piece) => total + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}
