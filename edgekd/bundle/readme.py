"""The README of a bundle: what it is, how to use it, how large it is, whose it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from edgekd.bundle.kind import Contents, Kind
from edgekd.bundle.model import MODEL_FILE, FileFacts

README_FILE = "README.md"
_SHOWN_BYTES = 50_000  # what a row of the size table has at least


def readme(kind: Kind, contents: Contents, files: Mapping[str, FileFacts]) -> str:
    """Text for the developer who is given the folder.

    Args:
        files: of the bundle, without this one.
    """
    drawn = contents.generation
    steps = "step" if drawn.steps == 1 else "steps"
    parts = [
        f"# {contents.name}: {kind.title}",
        f"A {contents.pipeline} for {contents.exported.runtime} in {contents.precision}, put "
        f"together by edgekd {contents.version}. It draws {drawn.width}x{drawn.height} pictures in "
        f"{drawn.steps} {steps} of {drawn.sampler} with guidance scale {drawn.guidance_scale:g}, "
        "as the export recommends. A few-step student draws worse with other steps or samplers.",
        "## How to use it",
        "\n".join(f"{place}. {step}" for place, step in enumerate(kind.steps, 1)),
        *(f"> {note}" for note in kind.notes),
        "> Keep pictures and files of your own outside this folder: `edgekd bundle` does not "
        "replace one to which something was added. After trying it here, make the next one "
        "elsewhere.",
        "## Size",
        size_table(files),
        "## Licence",
        contents.licence.sentence,
        "The app's code is edgekd's, under the Apache License 2.0 (`licences/LICENSE`, "
        "`licences/NOTICE`).",
        "## Files",
        f"`bundle.json` lists every file with its SHA-256; `{MODEL_FILE}` lists the model's, says "
        "how it draws, and is what the app checks: a model of which a part is missing or changed "
        "is refused.",
    ]
    return "\n\n".join(parts) + "\n"


def size_table(files: Mapping[str, FileFacts]) -> str:
    """MB of each top-level file and folder, of the model of each part; small ones together."""
    model = next((name for name in files if PurePosixPath(name).name == MODEL_FILE), MODEL_FILE)
    prefix = PurePosixPath(model).parent.parts
    sizes: dict[str, int] = {}
    for name, facts in files.items():
        parts = PurePosixPath(name).parts
        inside = parts[: len(prefix)] == prefix and len(parts) > len(prefix)
        kept = parts[: len(prefix) + 1] if prefix and inside else parts[:1]
        shown = "/".join(kept) + ("/" if len(kept) < len(parts) else "")
        sizes[shown] = sizes.get(shown, 0) + facts.bytes
    large = {name: size for name, size in sorted(sizes.items()) if size >= _SHOWN_BYTES}
    total = sum(sizes.values())
    rows = [(_row_name(name, large), size) for name, size in large.items()]
    rows += [("all else", total - sum(large.values())), ("**all**", total)]
    lines = [f"| {name} | {size / 1e6:.1f} |" for name, size in rows]
    return "\n".join(["| part | MB |", "|---|---:|", *lines])


def _row_name(name: str, shown: Iterable[str]) -> str:
    """A folder of which parts have rows of their own is said to be the rest."""
    has_parts = any(other != name and other.startswith(name) for other in shown)
    return f"`{name}`, the rest" if has_parts else f"`{name}`"
