/** A program around a Node bundle, which is compiled with the types that the bundle publishes. */

import type * as Own from "../node/app/src/index";
import { encodePng, open, pictureTexts, type Picture, type Request } from "edgekd-bundle";

export async function draw(): Promise<Uint8Array> {
  const pipeline = await open({ threads: 2 });
  const request: Request = { prompt: "red apple", seed: 1 };
  const picture: Picture = await pipeline.generate(request, { onStep: () => {} });
  // @ts-expect-error what is not published is no `any`
  void picture.depth;
  return encodePng(picture, pictureTexts(pipeline.model, request));
}

// What is published is what the module has.
type Functions = { open: typeof open; encodePng: typeof encodePng; pictureTexts: typeof pictureTexts };
declare const own: typeof Own;
export const published: Functions = own;
