"""The iPhone app: a Swift package around Core ML, and the folder of Apple's own package.

Sources/EdgekdCore (tokenizer, noise, samplers, pipeline; no Core ML)
Sources/EdgekdPictures (Core ML, the screen)  iOS/ (the app's entry)  Tests/  Model/
"""

from __future__ import annotations

import shutil
from pathlib import Path

from edgekd.bundle.copying import copy_tree
from edgekd.bundle.kind import Contents, template
from edgekd.bundle.model import copy_model
from edgekd.bundle.phones import check_drawable
from edgekd.files import writing
from edgekd.progress import Progress
from edgekd.resources import data_root

VECTORS = Path("Tests", "EdgekdCoreTests", "vectors.json")
# `*-ios18` need iOS 18 or macOS 15.
PRECISIONS = (
    "palette6",
    "palette8",
    "palette4",
    "fp16",
    "int8",
    "mixed",
    "pruned25",
    "w8a8",
    "palette8-ios18",
    "palette4-ios18",
    "fp16-ios18",
    "int4-ios18",
)
APPLE_NOTES = (
    "Core ML, the screen and the app were not executed by edgekd's authors: no Mac could be had. "
    "Tokenizer, noise, samplers and pipeline were, with Swift 6 on Linux; `swift test` repeats it "
    "for noise and samplers.",
    "For Apple's Swift package `StableDiffusion` instead of the pipeline here: `sh compile.sh` in "
    "`Model` makes its folder `Resources`. Its pictures differ from these, even from the same "
    "noise: it always guides; knows no few-step, DDIM, Euler or LCM sampler; splits prompts at "
    "spaces only, so that `apple, red` has other tokens; cuts the end token off long prompts; and "
    "draws its seeded noise otherwise where the latents are no multiple of 16 values.",
)


def fill_swift_package(folder: Path, contents: Contents) -> None:
    """Write the package, its test vectors and the model.

    Raises:
        InputError: the app cannot draw with the pipeline.
    """
    check_drawable(contents)
    copy_tree(template("ios"), folder)
    with writing(folder):
        shutil.copyfile(
            data_root() / "export_targets" / "testdata" / "vectors.json", folder / VECTORS
        )
    copy_model(contents, folder / "Model")


class Ios:
    """See `edgekd.bundle.kind.Kind`."""

    name = "ios"
    title = "iPhone app"
    runtime = "coreml"
    target = "coreml"
    precisions = PRECISIONS
    steps = (
        "In Xcode 15 or newer make a new iOS app (SwiftUI), and replace its sources by "
        "`iOS/PicturesApp.swift`.",
        "Add this folder as a local package (File, Add Package Dependencies) with its product "
        "`EdgekdPictures`, and drag the folder `Model` in as a folder reference, with the app as "
        "its target.",
        "Run on a device with iOS 17 or newer. The first start compiles the model for the device; "
        "later ones open it at once.",
    )
    notes = APPLE_NOTES

    def check(self) -> None:
        """Nothing is needed beside edgekd itself."""

    def fill(self, folder: Path, contents: Contents, progress: Progress) -> None:
        """See `edgekd.bundle.kind.Kind`."""
        fill_swift_package(folder, contents)


KIND = Ios()
