"""What runs the models of an exported folder, and what all who do have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgekd.errors import InputError

Array = npt.NDArray[Any]
Arrays = dict[str, Array]


class Backend(Protocol):
    """Runs the parts of one exported folder; a part is opened when it is first used."""

    def run(self, component: str, inputs: Mapping[str, Array]) -> Arrays:
        """Outputs of a part (`"unet"`) by name, float32.

        Inputs are cast to what the part was exported with; those it does not have are passed over.

        Raises:
            InputError: the part's model is missing or cannot be opened.
        """


def unusable(path: Path, runtime: str, error: Exception) -> InputError:
    """The runtime could not open a model; its reason on one line."""
    reason = " ".join(str(error).split())
    return InputError(f"`{path}` must be a model that {runtime} can open", reason)


def model_file(folder: Path, component: str, names: tuple[str, ...]) -> Path:
    """The first of a part's model files that is there."""
    for name in names:
        path = folder / component / name
        if path.is_file():
            return path
    raise InputError(
        f"`{folder / component}` must hold {' or '.join(names)}", "a folder without it"
    )


def single(values: Array) -> Array:
    """Half precision to float32, in which samplers compute."""
    return values.astype(np.float32) if values.dtype == np.float16 else values
