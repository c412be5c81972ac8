/** What a user or a bundle got wrong, in one sentence; anything else is a defect. */
export class InputError extends Error {
  /**
   * @param rule what must hold: "`steps >= 1` must hold"
   * @param found what broke it: "steps=0"
   * @param fix a way out, as a sentence
   */
  constructor(rule: string, found: string, fix = "") {
    super(`${rule}, but got ${found}${fix ? `. ${fix}` : ""}`);
    this.name = "InputError";
  }
}

/** Drawing was called off by its caller. */
export class Cancelled extends Error {
  constructor() {
    super("cancelled");
    this.name = "Cancelled";
  }
}
