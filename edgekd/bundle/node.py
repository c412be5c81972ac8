"""The Node app: a module and a command line on onnxruntime-node, and a sample for Electron.

dist/ (the module and the command)  index.d.ts, types.d.ts  model/  package.json  electron/
"""

from __future__ import annotations

import shutil
from pathlib import Path

from edgekd.bundle.copying import copy_tree
from edgekd.bundle.kind import Contents, template
from edgekd.bundle.licences import FOLDER
from edgekd.bundle.model import copy_model
from edgekd.bundle.npm import check_node, workspace
from edgekd.bundle.scripted import NODE_PRECISIONS, check_drawable
from edgekd.bundle.web import LIBRARIES_FILE
from edgekd.files import write_bytes
from edgekd.progress import Progress

# Sources of what is in `dist/`.
_NOT_SHIPPED = ("src", "dist", "node_modules", "vite.config.mjs")


class Node:
    """See `edgekd.bundle.kind.Kind`."""

    name = "node"
    title = "module and command for Node.js"
    runtime = "onnx"
    target = "onnx"
    precisions = NODE_PRECISIONS
    steps = (
        "Have Node.js 20 or newer, and run `npm ci --ignore-scripts` in this folder: "
        "onnxruntime-node for the CPU, about 290 MB for all systems. Without the option its script "
        "downloads more, for GPUs.",
        'Draw: `node dist/cli.mjs "red apple" --seed 1 --out ../picture.png`; `--help` lists the '
        "options.",
        "In your own code: `import { open, encodePng } from './dist/index.mjs'`, then "
        "`const pipeline = await open()` and `await pipeline.generate({ prompt, seed: 1 })`; "
        "`index.d.ts` has the types. `electron/` shows it in a window.",
    )
    notes = (
        "The Electron sample was not executed by edgekd's authors; module and command were, on "
        "Linux.",
        "`edgekd bundle --precision int8` makes a model of a quarter of the size of fp32.",
    )

    def check(self) -> None:
        """See `edgekd.bundle.kind.Kind`."""
        check_node()

    def fill(self, folder: Path, contents: Contents, progress: Progress) -> None:
        """See `edgekd.bundle.kind.Kind`."""
        check_drawable(contents)
        copy_tree(template(self.name), folder, without=_NOT_SHIPPED)
        with workspace() as space:
            progress.info("  npm ci (30 MB from the network the first time) and vite build")
            space.install("edgekd-core")
            copy_tree(space.build("node/app"), folder / "dist", without=())
            shutil.copyfile(space.root / "web/core/src/types.ts", folder / "types.d.ts")
        copy_model(contents, folder / "model")
        libraries = template("web") / LIBRARIES_FILE
        (folder / FOLDER).mkdir()
        write_bytes(folder / FOLDER / LIBRARIES_FILE, libraries.read_bytes())


KIND = Node()
