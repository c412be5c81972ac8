"""The Mac app: the Swift package of `edgekd.bundle.ios` with a window of its own."""

from __future__ import annotations

from pathlib import Path

from edgekd.bundle.ios import APPLE_NOTES, PRECISIONS, fill_swift_package
from edgekd.bundle.kind import Contents


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

    def fill(self, folder: Path, contents: Contents) -> None:
        """See `edgekd.bundle.kind.Kind`."""
        fill_swift_package(folder, contents, without=("iOS",))


KIND = MacOs()
