"""The desktop app: Python and Qt, no torch.

model/  desktop/ (the window)  edgekd/ (the runtime)  requirements.txt  app.spec
start.sh  start.bat
"""

from __future__ import annotations

import shutil
from pathlib import Path

import edgekd
from edgekd.bundle.copying import copy_tree
from edgekd.bundle.kind import Contents, template
from edgekd.bundle.model import copy_model
from edgekd.progress import Progress

# What edgekd-runtime has, but for the server.
RUNTIME_FILES = ("__init__.py", "errors.py", "reading.py", "py.typed", "runtime/**/*.py")


class Desktop:
    """See `edgekd.bundle.kind.Kind`."""

    name = "desktop"
    title = "desktop app"
    runtime = "onnx"
    target = "onnx"
    precisions: tuple[str, ...] = (
        "fp32",
        "fp16",
        "int8",
        "int8-dynamic",
        "int8-static",
        "int8-mixed",
        "int8-matmul",
        "int4-matmul",
        "mixed",
    )
    steps = (
        "Have Python 3.10 or newer, with `venv`.",
        "Run `./start.sh` (Linux, macOS) or `start.bat` (Windows): the first start installs numpy, "
        "onnxruntime, tokenizers and PySide6 from the package index into `.venv`, about 470 MB; "
        "later ones need no network.",
        "Write what to draw, press Return, and save the picture.",
    )
    notes = (
        "On Linux Qt needs libraries of the system; on Debian and Ubuntu: `apt install libegl1 "
        "libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1`.",
        "`pyinstaller app.spec` makes a folder that needs no Python, 260 MB and the model. It "
        "holds Qt (LGPL-3.0), onnxruntime (MIT), numpy (BSD-3-Clause), tokenizers (Apache-2.0) and "
        "Python (PSF-2.0): pass on their licences with it.",
        "edgekd's authors executed it on Linux, also as PyInstaller's folder; not on Windows or "
        "macOS.",
    )

    def check(self) -> None:
        """Nothing is needed beside edgekd itself."""

    def fill(self, folder: Path, contents: Contents, progress: Progress) -> None:
        """See `edgekd.bundle.kind.Kind`."""
        copy_tree(template(self.name), folder)
        copy_model(contents, folder / "model")
        package = Path(edgekd.__file__).parent
        for pattern in RUNTIME_FILES:
            for path in sorted(package.glob(pattern)):
                target = folder / "edgekd" / path.relative_to(package)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)


KIND = Desktop()
