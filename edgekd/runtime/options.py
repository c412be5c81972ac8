"""How a runtime runs the models, as measured when they were exported and stored in the manifest."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from edgekd.errors import InputError
from edgekd.reading import Fields


@dataclass(frozen=True)
class RuntimeOptions:
    """Defaults are the runtimes' own.

    Attributes:
        threads: threads inside an operator; 0: what the runtime chooses.
        fused_guidance: both halves of guidance in one call of the U-Net, else one after the other.
        optimization: onnxruntime's graph optimisation: `basic`, `extended` or `all`.
        memory_pattern: onnxruntime plans the memory of a run ahead.
        arena: onnxruntime keeps freed memory for the next run.
        arithmetic: what OpenVINO computes in, `f32` or `bf16`; None: bf16 where the processor has
            it.
        streams: OpenVINO's streams, among which the cores are divided.
    """

    threads: int = 0
    fused_guidance: bool = True
    optimization: str = "all"
    memory_pattern: bool = True
    arena: bool = True
    arithmetic: str | None = None
    streams: int = 1


_NAMES = {field.name for field in fields(RuntimeOptions)}
_KEY = "tuning"  # under which `edgekd export --tune` stores what it measured
_CHOICES: dict[str, tuple[Any, ...]] = {
    "optimization": ("basic", "extended", "all"),
    "arithmetic": (None, "f32", "bf16"),
}


def read_options(manifest: Fields) -> RuntimeOptions:
    """Options of a manifest: the measured ones, else the defaults of its runtime and precision.

    Raises:
        InputError: an unknown option, or a value that it cannot have.
    """
    # OpenVINO's own choice is not what a float32 export was checked in.
    exact = manifest.text("precision") == "fp32"
    values: dict[str, Any] = {"arithmetic": "f32" if exact else None}
    chosen = manifest.inner(_KEY).inner("chosen").values if manifest.has(_KEY) else {}
    for name, value in chosen.items():
        if name not in _NAMES:
            raise InputError(f"`{_KEY}.chosen` of a manifest must be known options", name)
        if not _accepts(name, value):
            raise InputError(f"`{_KEY}.chosen.{name}` of a manifest must be usable", repr(value))
        values[name] = value
    return RuntimeOptions(**values)


def _accepts(name: str, value: Any) -> bool:
    if name in _CHOICES:
        return value in _CHOICES[name]
    example = getattr(RuntimeOptions, name)
    return type(value) is type(example) and (isinstance(value, bool) or value >= 0)
