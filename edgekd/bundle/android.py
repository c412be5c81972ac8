"""The Android app: Gradle, Kotlin and ONNX Runtime.

core/ (plain Kotlin: tokenizer, noise, samplers, pipeline)
app/ (the screen, and the models in ONNX Runtime; the model in src/main/assets/model/)
"""

from __future__ import annotations

from pathlib import Path

from edgekd.bundle.copying import copy_tree
from edgekd.bundle.kind import Contents, template
from edgekd.bundle.model import copy_model
from edgekd.bundle.phones import check_drawable
from edgekd.progress import Progress

MODEL = Path("app", "src", "main", "assets", "model")


class Android:
    """See `edgekd.bundle.kind.Kind`."""

    name = "android"
    title = "Android app"
    runtime = "onnx"
    target = "onnx-mobile"
    precisions = ("ort-int8", "ort-fp32")
    steps = (
        "Have Android Studio (2024.2 or newer) with the SDK of Android 15 (API 35).",
        "Open this folder in it; Gradle fetches its plugins and `onnxruntime-android`. There is no "
        "Gradle wrapper in it: Android Studio has its own Gradle; without it run `gradle wrapper`.",
        "Press Run. The first start copies the model to the app's own storage and checks it.",
    )
    notes = (
        "The app itself was not executed by edgekd's authors: no Android SDK could be had. Its "
        "tokenizer, noise, samplers, pipeline and ONNX Runtime calls were, on a Java virtual "
        "machine: they draw the pictures that Python draws from the same seed.",
        "To use the code in an app of yours, take the module `core`, `OnnxRunner.kt`, "
        "`Unpacker.kt` and the folder `model`; Google Play takes apps up to 200 MB, larger models "
        "are downloaded at the first start.",
    )

    def check(self) -> None:
        """Nothing is needed beside edgekd itself."""

    def fill(self, folder: Path, contents: Contents, progress: Progress) -> None:
        """See `edgekd.bundle.kind.Kind`."""
        check_drawable(contents)
        copy_tree(template(self.name), folder)
        copy_model(contents, folder / MODEL)


KIND = Android()
