"""What is known of a pipeline folder without running it: parameters, sizes, parity."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from edgekd.benchmark.generation import MANIFEST
from edgekd.model_card import CARD_FILE
from edgekd.reading import read_json
from edgekd.report.schema import Parity

if TYPE_CHECKING:
    from edgekd.diffusion.weights import StoredTensor

_DTYPES = {"F16": "fp16", "BF16": "bf16", "F32": "fp32", "F64": "fp64"}  # as safetensors has them


def folder_bytes(path: Path) -> int:
    """Size of all files below a folder; a card grows with what is measured, and is left out."""
    files = (file for file in path.rglob("*") if file.is_file() and file.name != CARD_FILE)
    return sum(file.stat().st_size for file in files)


def component_bytes(path: Path) -> dict[str, int]:
    """Size of each component folder of a pipeline, largest first."""
    sizes = {child.name: folder_bytes(child) for child in path.iterdir() if child.is_dir()}
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def component_parameters(path: Path) -> dict[str, int]:
    """Number of parameters of each model in a diffusers folder, from safetensors headers."""
    return {
        name: sum(prod(tensor.shape) for tensor in tensors)
        for name, tensors in _stored_tensors(path).items()
    }


def stored_dtype(path: Path) -> str | None:
    """Type of the weights in a diffusers folder: `fp16`, `fp32`, …, or `mixed`; None: no weights.

    A student is stored in fp32, many teachers in fp16: their sizes are not of the same kind.
    """
    types = {tensor.dtype for tensors in _stored_tensors(path).values() for tensor in tensors}
    if len(types) > 1:
        return "mixed"
    return next((_DTYPES.get(dtype, dtype) for dtype in types), None)


def _stored_tensors(path: Path) -> dict[str, list[StoredTensor]]:
    """Floating-point tensors of each model in a diffusers folder, from safetensors headers."""
    from edgekd.diffusion.components import weights_stem
    from edgekd.diffusion.weights import find_weights, read_headers

    return {
        folder.name: [
            tensor
            for tensor in read_headers(find_weights(folder, weights_stem(folder.name))).values()
            if tensor.dtype.startswith(("F", "BF"))
        ]
        for folder in sorted(child for child in path.iterdir() if child.is_dir())
        if any(folder.glob("*.safetensors"))
    }


def parity(path: Path) -> dict[str, Parity]:
    """Parity of each exported component, from the export's manifest; empty without one."""
    if not (path / MANIFEST).is_file():
        return {}
    components = read_json(path / MANIFEST).get("components", {})
    return {
        name: Parity.model_validate(facts["parity"])
        for name, facts in components.items()
        if "parity" in facts
    }
