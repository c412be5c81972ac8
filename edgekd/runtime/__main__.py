"""`python -m edgekd.runtime FOLDER PROMPT… --out DIR`: one PNG for each prompt."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from edgekd.errors import EdgekdError, InputError
from edgekd.runtime.sampler_names import ALIASES


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m edgekd.runtime",
        description="Draw pictures with an exported folder; needs no torch.",
        epilog="A prompt that begins with a dash goes behind `--`, after all options.",
    )
    parser.add_argument("folder", type=Path, help="what `edgekd export` wrote")
    parser.add_argument("prompts", nargs="+", metavar="prompt", help="one picture for each")
    parser.add_argument("--out", type=Path, required=True, help="new or existing folder")
    parser.add_argument("--negative-prompt", help="what to lead away from")
    parser.add_argument("--steps", type=int, help="default: the folder's recommendation")
    parser.add_argument("--guidance", type=float, help="default: the folder's recommendation")
    parser.add_argument(
        "--sampler", help=f"{', '.join(ALIASES)} or diffusers' class; default: the folder's"
    )
    parser.add_argument("--seed", type=int, default=0, help="picture i takes seed + i")
    parser.add_argument("--height", type=int, help="in pixels")
    parser.add_argument("--width", type=int, help="in pixels")
    parser.add_argument("--threads", type=int, default=0, help="0: the runtime's choice")
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        paths = _draw(options)
    except EdgekdError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if options.json:
        print(json.dumps({"images": [str(path) for path in paths]}))
    else:
        print("\n".join(map(str, paths)))
    return 0


def _draw(options: argparse.Namespace) -> list[Path]:
    from edgekd.file_record import check_given
    from edgekd.runtime.conditions import check_prompts
    from edgekd.runtime.pipeline import Pipeline
    from edgekd.runtime.png import write_png

    check_prompts(options.prompts)
    out = options.out.absolute()
    if os.path.lexists(out) and not out.is_dir():
        raise InputError("`--out` must be a folder", f"{options.out} (a file)")
    if out.resolve().is_relative_to(options.folder.resolve()):
        raise InputError("`--out` must lie outside the exported folder", str(options.out))
    paths = [options.out / f"{index:04d}.png" for index in range(len(options.prompts))]
    for path in paths:
        if os.path.lexists(path):
            raise InputError("pictures must not be there yet", str(path), "Pass another --out.")
    check_given(options.folder)
    pictures = Pipeline.open(options.folder, options.threads, options.sampler).generate(
        options.prompts,
        options.negative_prompt,
        steps=options.steps,
        guidance_scale=options.guidance,
        seed=options.seed,
        height=options.height,
        width=options.width,
    )
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("`--out` must be a folder", f"{options.out} ({error.strerror})") from None
    for path, picture in zip(paths, pictures, strict=True):
        write_png(path, picture)
    return paths


if __name__ == "__main__":
    sys.exit(main())
