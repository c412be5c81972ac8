"""What a kind of bundle is: one sort of app around an exported pipeline.

A kind is an object in the entry-point group `edgekd.bundles`; its template lies in
`export_targets/<name>/app/`. It fills a folder with the app and the model. What all bundles share
is written by the job: licences, README with size table, `bundle.json` with the hash of every file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from edgekd.progress import Progress
from edgekd.resources import data_root
from edgekd.runtime.folder import ExportedFolder


@dataclass(frozen=True)
class BundleGeneration:
    """How pictures are drawn, as the student was trained.

    Attributes:
        sampler: class in diffusers of the scheduler.
        guidance_scale: 1: the U-Net is called once a step.
        height, width: in pixels.
    """

    sampler: str
    steps: int
    guidance_scale: float
    height: int
    width: int


@dataclass(frozen=True)
class Licence:
    """What a bundle says of its model's licence.

    Attributes:
        name: as the model's card has it (an SPDX name, or text); None: nobody said.
        sentence: for people: the licence, or that there is none and who must find out.
        files: name in the bundle's `licences/` -> content.
        has_text: whether what must go with the model is among them.
    """

    name: str | None
    sentence: str
    files: Mapping[str, bytes]
    has_text: bool


@dataclass(frozen=True)
class Contents:
    """What a kind puts into an app.

    Attributes:
        name: of the model, for people.
        exported: the exported folder as the runtime reads it: its path, runtime, precision,
            scheduler, shapes, coding of latents. Nothing in it may be changed.
        pipeline: its class in diffusers.
        content_hash: of the exported folder; equal for equal exports.
        licence: of the model.
        version: of edgekd.
    """

    name: str
    exported: ExportedFolder
    pipeline: str
    content_hash: str
    licence: Licence
    version: str

    @property
    def path(self) -> Path:
        """The exported folder."""
        return self.exported.path

    @property
    def precision(self) -> str:
        return self.exported.precision

    @property
    def generation(self) -> BundleGeneration:
        """As the folder recommends."""
        folder = self.exported
        height, width = folder.shapes.native
        return BundleGeneration(
            folder.scheduler.name, folder.steps, folder.guidance_scale, height, width
        )


@runtime_checkable
class Kind(Protocol):
    """One kind of bundle.

    Attributes:
        name: as `--for` takes it.
        title: what it is, in a few words: "static web page".
        runtime: name of the exporter whose folders it takes.
        target: shipped export target with which an export is made where a run has none.
        precisions: those it takes; the first is the default.
        steps: for the bundle's README: what a developer does with the folder, a sentence each.
        notes: for the bundle's README: what was not executed, where pictures differ.
    """

    name: str
    title: str
    runtime: str
    target: str
    precisions: tuple[str, ...]
    steps: tuple[str, ...]
    notes: tuple[str, ...]

    def check(self) -> None:
        """See that the tools that `fill` needs are here, before any work.

        Raises:
            InputError: one is missing or too old; the message says which and how to get it.
        """

    def fill(self, folder: Path, contents: Contents, progress: Progress) -> None:
        """Write app and model into a new folder, which is given its name once it is whole.

        Equal contents give equal bytes. `edgekd.bundle.model.copy_model` writes the model. What
        takes long is told on `progress`.

        Raises:
            InputError: a tool failed, or the model is of a kind that the app cannot draw with.
        """


def template(name: str) -> Path:
    """The app of a shipped kind: `export_targets/<name>/app`, in a checkout and a wheel alike."""
    return data_root() / "export_targets" / name / "app"
