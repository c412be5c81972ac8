"""The Mac app: the Swift package of `edgekd.bundle.ios` with a window of its own.

Sources/edgekd-pictures (the window) and Package.swift come in addition to that of the iPhone.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from edgekd.bundle.copying import copy_tree
from edgekd.bundle.ios import APPLE_NOTES, PRECISIONS, fill_swift_package
from edgekd.bundle.kind import Contents, template
from edgekd.progress import Progress


class MacOs:
    """See `edgekd.bundle.kind.Kind`."""

    name = "macos"
    title = "Mac app"
    runtime = "coreml"
    target = "coreml"
    precisions = PRECISIONS
    steps = (
        "Have a Mac with macOS 14 and Xcode 15, or newer.",
        "Run `swift run -c release edgekd-pictures` in this folder: it builds the app and opens "
        "its window. The first start compiles the model; later ones open it at once.",
        "For an app of yours add this folder as a local package with its product "
        "`EdgekdPictures`; `PicturesView(folder:)` is the whole screen.",
    )
    notes = APPLE_NOTES

    def check(self) -> None:
        """Nothing is needed beside edgekd itself."""

    def fill(self, folder: Path, contents: Contents, progress: Progress) -> None:
        """See `edgekd.bundle.kind.Kind`."""
        fill_swift_package(folder, contents)
        shutil.rmtree(folder / "iOS")
        copy_tree(template(self.name), folder)


KIND = MacOs()
