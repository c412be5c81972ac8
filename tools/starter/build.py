"""Rebuild the starter's images from their published packages.

    python -m tools.starter.build --out emoji-64.parquet --check

Fetches eight pinned npm packages with the `npm` client, verifies their
SHA-512, renders each icon with resvg and writes the table that ships as
`emoji-64.parquet`. Needs `npm` and the extra `starter-build`.

An icon is rendered at 256 px in a square view box, then halved twice with a
Lanczos filter; both results pass through lossy WebP, as when the shipped file
was made, so with the same library versions the bytes are the same too.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import hashlib
import importlib.util
import io
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from edgekd.data.workers import worker_count, worker_pool
from edgekd.errors import EdgekdError, InputError
from edgekd.processes.pool import ordered_map
from edgekd.processes.scratch import scratch_folder
from edgekd.progress import Progress, console
from edgekd.resources import STARTER
from tools.starter.compare import compare
from tools.starter.packages import EMOJIBASE, FLAT, STYLES, Package, Style

SHIPPED = STARTER / "emoji-64.parquet"
RENDER_SIDE = 256
# (side, WebP options) of the two halvings.
HALVINGS: tuple[tuple[int, dict[str, int]], ...] = (
    (128, {"quality": 82, "method": 6, "alpha_quality": 90}),
    (64, {"quality": 85, "method": 6, "alpha_quality": 90}),
)
# emojibase's numbers of the six groups that show things rather than people, signs and flags.
GROUPS = {
    0: "smileys & emotion",
    3: "animals & nature",
    4: "food & drink",
    5: "travel & places",
    6: "activities",
    7: "objects",
}


def fetch(package: Package, folder: Path) -> Path:
    """Download a package's tarball with `npm pack` and verify it.

    Raises:
        InputError: npm is missing or fails, or the tarball is not the pinned one.
    """
    command = ["npm", "pack", package.spec, "--json", "--pack-destination", str(folder)]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise InputError(
            "`npm` must be installed", "none on the path", "See https://nodejs.org."
        ) from None
    except subprocess.CalledProcessError as error:
        said = [line for line in error.stderr.splitlines() if line.startswith("npm error")]
        problem = " ".join([f"exit code {error.returncode}", *said[:3]])
        raise InputError(f"npm must be able to fetch {package.spec}", problem) from None
    path = folder / str(json.loads(result.stdout)[0]["filename"])
    verify(path, package)
    return path


def verify(path: Path, package: Package) -> None:
    """Compare a tarball with its pinned checksum.

    Raises:
        InputError: they differ.
    """
    found = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if found != package.sha512:
        raise InputError(f"{package.spec} must have SHA-512 {package.sha512}", found)


def read_members(path: Path, wanted: str) -> dict[str, bytes]:
    """The members of a package whose path matches a pattern, read in memory."""
    result = {}
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            stream = archive.extractfile(member) if re.fullmatch(wanted, member.name) else None
            if stream is not None:
                result[member.name.removeprefix("package/")] = stream.read()
    return result


@dataclass(frozen=True)
class Emoji:
    """One emoji of emojibase: `code` is its code points in lower-case hex, joined by `-`."""

    code: str
    label: str
    tags: list[str]
    group: str

    @property
    def slug(self) -> str:
        """The label as icon sets write it in names."""
        words = (
            self.label.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "").replace("&", "and")
        )
        return re.sub(r"[^a-z0-9]+", "-", words).strip("-")


def list_emoji(data: list[dict[str, Any]]) -> list[Emoji]:
    """The emoji of the six groups, in emojibase's order."""
    return [
        Emoji(e["hexcode"].lower(), e["label"], e.get("tags", []), GROUPS[e["group"]])
        for e in data
        if e.get("group") in GROUPS
    ]


@dataclass(frozen=True)
class IconSet:
    """Icons in Iconify's JSON format (`icons`, `aliases`), names by code point, or image files."""

    icons: dict[str, Any]
    names_by_code: dict[str, str]
    files: dict[str, bytes]

    def svg(self, name: str) -> str | None:
        """An icon as a square SVG document, centred; None when the set has no such icon."""
        icon = self.icons["icons"].get(name)
        alias = self.icons.get("aliases", {}).get(name)
        if icon is None:
            # Aliases that also turn or mirror their parent are not needed here.
            return self.svg(alias["parent"]) if alias and set(alias) == {"parent"} else None
        width, height = (icon.get(side, self.icons[side]) for side in ("width", "height"))
        left, top = icon.get("left", 0), icon.get("top", 0)
        side = max(width, height)
        box = f"{left + (width - side) / 2:g} {top + (height - side) / 2:g} {side:g} {side:g}"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" '
            f'width="{side:g}" height="{side:g}">{icon["body"]}</svg>'
        )


def render(drawing: str | bytes) -> bytes:
    """An SVG document, or an image file of 256 px, as RGBA WebP of 64 px."""
    if isinstance(drawing, str):
        import resvg_py

        drawing = bytes(
            resvg_py.svg_to_bytes(svg_string=drawing, width=RENDER_SIDE, height=RENDER_SIDE)
        )
    content = drawing
    for side, options in HALVINGS:
        with Image.open(io.BytesIO(content)) as image:
            small = image.convert("RGBA").resize((side, side), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        small.save(stream, "WEBP", **options)
        content = stream.getvalue()
    return content


Row = dict[str, Any]


def iter_drawings(folder: Path) -> Iterator[tuple[Row, str | bytes]]:
    """Fetch the packages; yield each row, still without its image, with its drawing."""
    words = read_members(fetch(EMOJIBASE, folder), "package/en/data.json")
    sets = {style.name: _load(style, folder) for style in STYLES}
    for emoji in list_emoji(json.loads(words["en/data.json"])):
        for style in STYLES:
            drawing = _drawing(sets, style, emoji)
            if drawing is not None:
                yield _row(emoji, style), drawing


def _load(style: Style, folder: Path) -> IconSet:
    path = fetch(style.package, folder)
    if style.naming == "file":
        files = read_members(path, r"package/assets/[0-9a-f-]+\.webp")
        return IconSet({}, {}, {Path(name).stem: content for name, content in files.items()})
    parts = read_members(path, r"package/(icons|chars)\.json")
    return IconSet(json.loads(parts["icons.json"]), json.loads(parts["chars.json"]), {})


def _drawing(sets: dict[str, IconSet], style: Style, emoji: Emoji) -> str | bytes | None:
    icons = sets[style.name]
    codes = (emoji.code, f"{emoji.code}-fe0f", emoji.code.replace("-fe0f", ""))
    if style.naming == "file":
        return next((icons.files[code] for code in codes if code in icons.files), None)
    if style.naming == "label":
        return icons.svg(emoji.slug)
    names = sets[FLAT.name if style.naming == "flat" else style.name].names_by_code
    name = next((names[code] for code in codes if code in names), None)
    return icons.svg(name) if name else None


def _row(emoji: Emoji, style: Style) -> Row:
    return {
        "image": {"bytes": None, "path": f"{emoji.code}_{style.name}.webp"},
        "caption": f"{emoji.label}, {style.name} style",
        "label": emoji.label,
        "style": style.name,
        "tags": emoji.tags,
        "group": emoji.group,
        "source": f"npm:{style.package.spec}",
        "license": style.license,
    }


def build(out: Path, progress: Progress) -> None:
    """Fetch, render and write the table.

    Raises:
        InputError: npm, a checksum, or resvg that is not installed.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if importlib.util.find_spec("resvg_py") is None:
        raise InputError(
            "resvg-py must be installed", "no such module", "Run: pip install edgekd[starter-build]"
        )
    rows = []
    workers = worker_count(0, None)
    with scratch_folder() as folder, worker_pool(workers) as pool:
        drawings = iter_drawings(folder)
        with progress.track("render", None) as advance:
            for row, content in ordered_map(pool, render, drawings, 8 * workers):
                row["image"]["bytes"] = content
                rows.append(row)
                advance(1)
    temporary = out.with_name(f".{out.name}.tmp")
    # Large pages and the highest level: a fortieth less of the repository.
    pq.write_table(
        pa.Table.from_pylist(rows),
        temporary,
        compression="zstd",
        compression_level=22,
        data_page_size=1 << 24,
    )
    temporary.replace(out)


def main() -> int:
    """Command line; 0 when the table was written and, with `--check`, equals the shipped one."""
    parser = argparse.ArgumentParser(prog="python -m tools.starter.build", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, default=Path(SHIPPED.name), help="file to write")
    parser.add_argument("--check", action="store_true", help="compare with the shipped file")
    options = parser.parse_args()
    try:
        build(options.out, console())
    except EdgekdError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    if not options.check:
        return 0
    found = compare(options.out, SHIPPED)
    print(json.dumps(dataclasses.asdict(found)))
    same = found.rows == found.other_rows == found.equal_words == found.equal_pixels
    return 0 if same else 3


if __name__ == "__main__":
    sys.exit(main())
