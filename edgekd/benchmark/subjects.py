"""The rows of a benchmark: one pipeline folder in one runtime and precision each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgekd.artifacts import ARTIFACT_FILE, hash_tree, hash_value, read_json
from edgekd.errors import InputError

if TYPE_CHECKING:
    from edgekd.diffusion.weights import StoredTensor

Role = Literal["teacher", "student"]
TORCH = "torch"
MANIFEST = "manifest.json"
_DTYPES = {"F16": "fp16", "BF16": "bf16", "F32": "fp32", "F64": "fp64"}  # as safetensors has them


@dataclass(frozen=True)
class Subject:
    """One pipeline to measure.

    Attributes:
        name: shown in the report; unique in a benchmark.
        role: `teacher` or `student`.
        runtime: `torch`, or the name of an exporter.
        precision: as the exporter names it; `fp32` for torch.
        path: diffusers folder (torch) or exported folder.
        source: the diffusers folder an export was made from: parameters are counted there.
        not_executed: why this machine cannot run it; such a row has sizes, no measurements.
        evaluated: why this machine draws its pictures by evaluating the export instead of running
            it; such a row has quality, but neither times nor memory.
    """

    name: str
    role: Role
    runtime: str
    precision: str
    path: Path
    source: Path | None = None
    not_executed: str = ""
    evaluated: str = ""

    @property
    def weights(self) -> Path | None:
        return self.path if self.runtime == TORCH else self.source

    def key(self) -> str:
        """Hash of everything that decides what this subject draws."""
        content = hash_tree(self.path, exclude=(ARTIFACT_FILE, MANIFEST))
        return hash_value([self.runtime, self.precision, content])


def check_subjects(subjects: list[Subject]) -> None:
    """Refuse a matrix that could not be read.

    Raises:
        InputError: a name twice, no teacher, a missing folder.
    """
    names = [subject.name for subject in subjects]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError("names of benchmark subjects must differ", f"{twice[0]!r} twice")
    if not any(s.role == "teacher" and not s.not_executed for s in subjects):
        raise InputError(
            "a benchmark must have a teacher row that runs here", ", ".join(names) or "no subjects"
        )
    for subject in subjects:
        if not (subject.path / "model_index.json").is_file():
            raise InputError(
                f"subject `{subject.name}` must be a pipeline folder",
                f"{subject.path} (no model_index.json)",
            )


def open_pipeline(subject: Subject, threads: int) -> Any:
    """Load a subject in its runtime as an object that is called like a diffusers pipeline.

    Args:
        threads: CPU threads of the runtime; for torch it is set for the whole process.
    """
    if subject.runtime == TORCH:
        import torch

        from edgekd.diffusion.load import load_pipeline

        torch.set_num_threads(threads)
        pipeline = load_pipeline(subject.path)
    else:
        from edgekd.export.registry import get_exporter

        pipeline = get_exporter(subject.runtime).load(subject.path, threads)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def folder_bytes(path: Path) -> int:
    """Size of all files below a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def component_bytes(path: Path) -> dict[str, int]:
    """Size of each component folder of a pipeline, largest first."""
    sizes = {child.name: folder_bytes(child) for child in path.iterdir() if child.is_dir()}
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def component_parameters(path: Path) -> dict[str, int]:
    """Number of parameters of each model in a diffusers folder, from safetensors headers."""
    from math import prod

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


def facts(subject: Subject) -> dict[str, Any]:
    """What is known of a subject without running it: parameters, sizes, parity of its export."""
    parameters = component_parameters(subject.weights) if subject.weights else None
    return {
        "name": subject.name,
        "role": subject.role,
        "runtime": subject.runtime,
        "precision": subject.precision,
        "not_executed": subject.not_executed or None,
        "evaluated": subject.evaluated or None,
        "parameters": sum(parameters.values()) if parameters else None,
        "component_parameters": parameters,
        "size_bytes": folder_bytes(subject.path),
        "stored_dtype": stored_dtype(subject.path) if subject.runtime == TORCH else None,
        "component_bytes": component_bytes(subject.path),
        "parity": parity(subject.path),
    }


def parity(path: Path) -> dict[str, Any] | None:
    """Parity of each exported component, from the export's manifest; None without one."""
    if not (path / MANIFEST).is_file():
        return None
    components = read_json(path / MANIFEST).get("components", {})
    return {name: facts["parity"] for name, facts in components.items() if "parity" in facts}
