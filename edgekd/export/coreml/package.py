"""One part of a Core ML export on disk: written the same way every time, and opened to run.

`<component>/{<Package>.mlpackage, config.json, layout.json}`; `layout.json` maps the capture's
names to the package's.
"""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

from edgekd.export.coreml.library import coremltools, quiet
from edgekd.export.coreml.mil.evaluator import PackageEvaluator
from edgekd.files import write_json, write_text
from edgekd.reading import read_json
from edgekd.runtime.coreml_backend import COREML, CoreMlPackage, OpenPackage, PackagedPart
from edgekd.runtime.coreml_layout import LAYOUT_FILE, Layout, package_path

# Facts of the moment, not of the model.
_VOLATILE = ("com.github.apple.coremltools.conversion_date",)


def write_package(model: Any, folder: Path, layout: Layout, config: dict[str, Any]) -> None:
    """Write a converted part, its configuration and its layout.

    What coremltools writes differs from run to run in random identifiers, a date and the order of
    protobuf's maps; here equal models give equal files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = package_path(folder, layout)
    with quiet():
        model.save(str(path))
    manifest = read_json(path / "Manifest.json")
    entries = manifest["itemInfoEntries"]
    stable = {old: _identifier(entry["path"]) for old, entry in entries.items()}
    root = entries[manifest["rootModelIdentifier"]]["path"]
    manifest["itemInfoEntries"] = {
        new: entries[old] for old, new in sorted(stable.items(), key=lambda item: item[1])
    }
    manifest["rootModelIdentifier"] = stable[manifest["rootModelIdentifier"]]
    # In coremltools' own layout: it writes the file anew, so, whenever it opens a package.
    write_text(path / "Manifest.json", json.dumps(manifest, indent=4, sort_keys=True) + "\n")
    _rewrite_model(path / "Data" / root, layout)
    write_json(folder / "config.json", config)
    write_json(folder / LAYOUT_FILE, {"inputs": layout.inputs, "outputs": layout.outputs})


def _identifier(path: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, path)).upper()


def _rewrite_model(path: Path, layout: Layout) -> None:
    model = coremltools.proto.Model_pb2.Model()
    model.ParseFromString(path.read_bytes())
    metadata = model.description.metadata
    metadata.shortDescription = f"{layout.package} of a Stable Diffusion pipeline"
    for name in _VOLATILE:
        metadata.userDefined.pop(name, None)
    path.write_bytes(model.SerializeToString(deterministic=True))


def load_model(folder: Path, layout: Layout) -> Any:
    """coremltools' `MLModel` of a written part, not loaded into Core ML."""
    with quiet():
        return coremltools.models.MLModel(str(package_path(folder, layout)), skip_model_load=True)


class PackageRunner(PackagedPart):
    """A written part that Core ML runs on macOS; elsewhere it is evaluated."""

    def __init__(self, folder: Path, component: str) -> None:
        opened: OpenPackage = CoreMlPackage if COREML.executes_here() else PackageEvaluator
        with quiet():
            super().__init__(folder, component, opened)
