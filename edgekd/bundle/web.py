"""The web app: a static page that draws in the browser.

site/ (the page; site/model/chunks/ has the model, cut and named by hashes)  serve.py
"""

from __future__ import annotations

import base64
import hashlib
import math
import shutil
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from edgekd.bundle.copying import copy_tree
from edgekd.bundle.kind import Contents, template
from edgekd.bundle.licences import FOLDER
from edgekd.bundle.model import MODEL_FILE, copy_model
from edgekd.bundle.npm import check_node, workspace
from edgekd.bundle.scripted import WEB_PRECISIONS, check_drawable
from edgekd.files import write_bytes, write_text
from edgekd.progress import Progress
from edgekd.runtime import Pipeline

LIBRARIES_FILE = "LIBRARIES.txt"
# A download that breaks off loses no more than this; static hosts take files of this size.
_CHUNK_BYTES = 4 << 20
_PROBE = "red apple"
_PROBE_PIXELS = 4096
# Same model, other order of sums; half precision has 11 bits, and one step magnifies its errors.
_FLOOR_DB, _HALF_FLOOR_DB = 35.0, 25.0


class Probe(BaseModel):
    """A picture of one step, as Python draws it with the exported model.

    A page compares a GPU's with it before it trusts the GPU.

    Attributes:
        stride: every so many pixels, in both directions, are kept.
        pixels: uint8 RGB, rows from the top, base64.
        floor_db: peak signal-to-noise ratio that a GPU must reach.
    """

    prompt: str
    seed: int
    stride: int
    pixels: str
    floor_db: float


class AppFacts(BaseModel):
    """`site/app.json`: how the model is cut, and whose it is.

    Attributes:
        chunks: file of the model -> names of its chunks in order, the SHA-256 of their content.
        probe: what a GPU must draw.
        licence: a sentence for visitors, or empty.
        licences: texts in `site/licences/`.
    """

    format: Literal[1] = 1
    chunks: dict[str, list[str]]
    probe: Probe
    licence: str
    licences: list[str]


class Web:
    """See `edgekd.bundle.kind.Kind`."""

    name = "web"
    title = "static web page"
    runtime = "onnx"
    target = "onnx"
    precisions = WEB_PRECISIONS
    steps = (
        "Try it: `python3 serve.py [PORT]`, and open http://localhost:8000/ in a browser.",
        "Put the folder `site` on a static host with https, under any path. Nothing runs on the "
        "host: pictures are drawn in the browser, and after the first visit without a network.",
        "Where the host lets you set headers, send `Cross-Origin-Opener-Policy: same-origin` and "
        "`Cross-Origin-Embedder-Policy: require-corp` with every file, and a long `Cache-Control` "
        "with `assets/` and `model/chunks/`. Elsewhere the page's service worker adds the two, and "
        "the first visit loads the page twice.",
    )
    notes = (
        "The page uses WebGPU where the browser has it and its GPU draws Python's picture, else "
        "WebAssembly with up to 8 threads; `?backend=wasm` or `?backend=webgpu` decides. Tested in "
        "Chromium with WebAssembly; real GPUs, Firefox, Safari and phones were not tried by "
        "edgekd's authors.",
        "A visitor loads the model, and of the runtime one of two: 3.7 MB for WebAssembly or 6.7 "
        "MB for WebGPU where the host compresses (`gzip -6`). Both stay in the browser.",
    )

    def check(self) -> None:
        """See `edgekd.bundle.kind.Kind`."""
        check_node()

    def fill(self, folder: Path, contents: Contents, progress: Progress) -> None:
        """See `edgekd.bundle.kind.Kind`."""
        check_drawable(contents)
        app = template(self.name)
        site = folder / "site"
        with workspace() as space:
            progress.info("  npm ci (64 MB from the network the first time) and vite build")
            space.install("edgekd-core", "edgekd-app")
            built = space.build("web/app")
            space.build("web/app", {"EDGEKD_PART": "service-worker"})
            copy_tree(built, site, without=())
        shutil.copyfile(app / "serve.py", folder / "serve.py")
        libraries = (app / LIBRARIES_FILE).read_bytes()
        texts = {**contents.licence.files, LIBRARIES_FILE: libraries}
        for place in (folder / FOLDER, site / FOLDER):
            place.mkdir()
        write_bytes(folder / FOLDER / LIBRARIES_FILE, libraries)
        for name, text in texts.items():
            write_bytes(site / FOLDER / name, text)
        put_model(contents, site, sorted(texts))


def put_model(contents: Contents, site: Path, licences: list[str]) -> None:
    """Write `model/` and `app.json` of a page.

    Args:
        licences: texts in its `licences/`.
    """
    copy_model(contents, site / "model")
    facts = AppFacts(
        chunks=cut_model(site / "model"),
        probe=make_probe(contents),
        licence=_for_visitors(contents.licence.name),
        licences=licences,
    )
    write_text(site / "app.json", facts.model_dump_json(indent=1) + "\n")


def _for_visitors(licence: str | None) -> str:
    """What the page says; the README has what developers must do."""
    return "" if licence is None else f"Licence of the model: {licence}."


def make_probe(contents: Contents) -> Probe:
    """What Python draws with a model, in one step."""
    pipeline = Pipeline.open(contents.path, threads=1)
    picture = pipeline.generate([_PROBE], steps=1, seed=0)[0]
    stride = math.ceil(math.sqrt(picture.shape[0] * picture.shape[1] / _PROBE_PIXELS))
    pixels = picture[::stride, ::stride].tobytes()
    half = contents.precision == "fp16"
    return Probe(
        prompt=_PROBE,
        seed=0,
        stride=stride,
        pixels=base64.b64encode(pixels).decode(),
        floor_db=_HALF_FLOOR_DB if half else _FLOOR_DB,
    )


def cut_model(model: Path) -> dict[str, list[str]]:
    """Put chunks named by their hashes in the place of a model's files; `model.json` stays.

    Returns:
        the chunks of each file.
    """
    chunks = model / "chunks"
    files = sorted(path for path in model.rglob("*") if path.is_file())
    chunks.mkdir()
    cut: dict[str, list[str]] = {}
    for path in files:
        if path == model / MODEL_FILE:
            continue
        names = cut.setdefault(path.relative_to(model).as_posix(), [])
        with open(path, "rb") as stream:
            while piece := stream.read(_CHUNK_BYTES):
                names.append(hashlib.sha256(piece).hexdigest())
                (chunks / names[-1]).write_bytes(piece)
        path.unlink()
    for folder in sorted(model.iterdir()):
        if folder.is_dir() and folder != chunks:
            shutil.rmtree(folder)
    return cut


KIND = Web()
