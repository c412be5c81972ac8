/**
 * Prompts to token ids, as `transformers.CLIPTokenizer` makes them (without ftfy installed).
 *
 * Byte pairs are merged by `@huggingface/tokenizers`. The clean-up before it, added tokens, the
 * special ones, cutting and padding are done here, where the library differs from CLIPTokenizer.
 */

import { Tokenizer } from "@huggingface/tokenizers";

import { InputError } from "./errors";

// CLIP's words; its two special tokens stay whole here too, after lower-casing.
const START = "<|startoftext|>";
const END = "<|endoftext|>";
// An apostrophe and a long s are one word too, as in Python, whose pattern ignores case.
const WORDS =
  /<\|startoftext\|>|<\|endoftext\|>|'[sſ]|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+/gu;
const MAX_MERGES = 49152 - 256 - 2; // CLIP's vocabulary: all merges but those of bytes and specials
const ROLES = ["bos_token", "eos_token", "pad_token", "unk_token"] as const;
// What BERT's tokenizer, which CLIP's clean-up comes from, takes for Chinese characters.
const CHINESE =
  /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b820}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;

type Ids = Record<string, number>;

/** The files of a tokenizer folder, as text. */
export interface TokenizerFiles {
  readonly vocab: string;
  readonly merges: string;
  readonly config: string;
}

/** Ids of one prompt, and how many tokens of it did not fit. */
export interface Tokens {
  readonly ids: number[];
  readonly cut: number;
}

export class ClipTokenizer {
  readonly maxLength: number;
  private readonly ids: Map<string, number>;
  private readonly added: Map<string, number>;
  private readonly split: RegExp;
  private readonly special: Record<(typeof ROLES)[number], number>;
  private readonly pairs: Tokenizer;

  constructor(files: TokenizerFiles) {
    const config = readObject(files.config, "tokenizer_config.json");
    const vocabulary = readObject(files.vocab, "vocab.json") as Ids;
    this.maxLength = checkedConfig(config);
    const names = Object.fromEntries(
      ROLES.map((role) => [role, content(config[role] ?? (role === "bos_token" ? START : END))]),
    ) as Record<(typeof ROLES)[number], string>;
    this.ids = new Map(Object.entries(vocabulary));
    this.added = addedTokens(config, this.ids, Object.values(names));
    this.special = Object.fromEntries(
      ROLES.map((role) => [role, this.idOf(names[role])]),
    ) as Record<(typeof ROLES)[number], number>;
    const longest = [...this.added.keys()].sort((one, other) => other.length - one.length);
    this.split = new RegExp(`(${longest.map((one) => one.replace(/[^\p{L}\p{N}]/gu, escaped)).join("|")})`, "u");
    this.pairs = bytePairs(vocabulary, files.merges, names.unk_token);
  }

  /** Ids of one prompt, cut and padded to `maxLength`. */
  encode(prompt: string): Tokens {
    const found = prompt
      .split(this.split)
      .flatMap((piece) => {
        const id = this.added.get(piece);
        return id === undefined ? this.encodePlain(clean(piece)) : [id];
      });
    const room = this.maxLength - 2;
    const { bos_token, eos_token, pad_token } = this.special;
    const ids = [bos_token, ...found.slice(0, room), eos_token];
    while (ids.length < this.maxLength) ids.push(pad_token);
    return { ids, cut: Math.max(0, found.length - room) };
  }

  private encodePlain(text: string): number[] {
    return (text.match(WORDS) ?? []).flatMap((word) =>
      word === START || word === END
        ? [this.ids.get(word) ?? this.special.unk_token]
        : this.pairs.encode(word, { add_special_tokens: false }).ids,
    );
  }

  private idOf(token: string): number {
    const id = this.added.get(token) ?? this.ids.get(token);
    if (id === undefined) throw new InputError("the vocabulary must have all special tokens", token);
    return id;
  }
}

/** No control characters, Chinese characters apart, composed, lower case, single spaces. */
export function clean(text: string): string {
  const kept = text
    .replace(/[ \t\n\r\p{Zs}]/gu, " ")
    .replace(/[\0\ufffd\p{C}]/gu, "")
    .replace(CHINESE, " $& ")
    .normalize("NFC");
  // Word by word: lower-casing a Greek sigma looks at the end of its word.
  return words(kept)
    .flatMap((word) => words(word.toLowerCase()))
    .join(" ");
}

/** A character of a token, for a regular expression that means the character itself. */
function escaped(character: string): string {
  return `\\u{${character.codePointAt(0)!.toString(16)}}`;
}

function words(text: string): string[] {
  return text.split(/\s+/u).filter(Boolean);
}

function readObject(text: string, name: string): Record<string, unknown> {
  const value: unknown = JSON.parse(text);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new InputError(`\`${name}\` must hold a JSON object`, typeof value);
  }
  return value as Record<string, unknown>;
}

/** The longest row of ids that the configuration allows; what is not CLIP's way is refused. */
function checkedConfig(config: Record<string, unknown>): number {
  const name = config["tokenizer_class"] ?? "CLIPTokenizer";
  if (name !== "CLIPTokenizer") {
    throw new InputError("the tokenizer must be a CLIPTokenizer", String(name));
  }
  for (const setting of ["padding_side", "truncation_side"]) {
    const side = config[setting] ?? "right";
    if (side !== "right") throw new InputError(`\`${setting}\` must be "right"`, String(side));
  }
  const length = config["model_max_length"];
  if (!Number.isInteger(length) || (length as number) < 3 || (length as number) > 100_000) {
    throw new InputError("`3 <= model_max_length <= 100000` must hold", String(length));
  }
  return length as number;
}

/** A token is written as text, or as an object with its text in `content`. */
function content(token: unknown): string {
  const text = typeof token === "object" && token ? (token as { content?: unknown }).content : token;
  return String(text ?? "");
}

/** Tokens that are found whole in a prompt: the special ones and learned concepts. */
function addedTokens(
  config: Record<string, unknown>,
  vocabulary: Map<string, number>,
  specials: string[],
): Map<string, number> {
  const found = new Map<string, number>();
  for (const name of specials) {
    const id = vocabulary.get(name);
    if (id !== undefined) found.set(name, id);
  }
  for (const [index, token] of Object.entries(config["added_tokens_decoder"] ?? {})) {
    const name = content(token);
    if (!/^\d+$/.test(index) || !name || (token as { single_word?: unknown }).single_word) {
      throw new InputError("added tokens must have a number and a text, not `single_word`", name);
    }
    found.set(name, Number(index));
  }
  return found;
}

function bytePairs(vocabulary: Ids, merges: string, unknown: string): Tokenizer {
  const lines = merges.trim().split("\n").slice(1, MAX_MERGES + 1);
  return new Tokenizer(
    {
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: {
        type: "ByteLevel",
        add_prefix_space: false,
        trim_offsets: true,
        use_regex: false,
      },
      post_processor: null,
      decoder: null,
      model: {
        type: "BPE",
        vocab: vocabulary,
        merges: lines.map((line) => line.trim()),
        unk_token: unknown,
        end_of_word_suffix: "</w>",
        continuing_subword_prefix: "",
        dropout: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: false,
      },
    } as never,
    {},
  );
}
