/** Where the vectors and the tokenizers that they name lie; `EDGEKD_PLACES` is a file that says it. */

import { readFileSync } from "node:fs";

const places = JSON.parse(readFileSync(process.env["EDGEKD_PLACES"]!, "utf8")) as {
  testdata: string;
  more: string;
  tokenizers: Record<string, string>;
};

export const testdata = places.testdata;
/** Trajectories that the shared vectors have not. */
export const moreTrajectories = places.more;
export const tokenizerFolders = places.tokenizers;
