"""What runs the models of an exported folder, and what all who do have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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

    def load(self, component: str) -> None:
        """Open a part now instead of at its first use.

        Raises:
            InputError: as `run`.
        """


def unusable(path: Path, runtime: str, error: Exception) -> InputError:
    """The runtime could not open a model; its reason on one line."""
    reason = " ".join(str(error).split())
    return InputError(f"`{path}` must be a model that {runtime} can open", reason)


def failed(component: str, runtime: str, error: Exception) -> InputError:
    """The runtime could not compute with what the rest of the folder gives; why, on one line."""
    reason = " ".join(str(error).split())
    if len(reason) > 300:  # the operator is named at the beginning, its trouble at the end
        reason = f"{reason[:140]} … {reason[-160:]}"
    return InputError(f"the {component} must run in {runtime} as its folder says", reason)


def model_file(folder: Path, component: str, names: tuple[str, ...]) -> Path:
    """The first of a part's model files that is there."""
    for name in names:
        path = folder / component / name
        if path.is_file():
            return path
    raise InputError(
        f"`{folder / component}` must hold {' or '.join(names)}", "a folder without it"
    )


# What a pipeline hands to each part, by the names that exports use.
_INPUTS = {
    "text_encoder": {"input_ids"},
    "text_encoder_2": {"input_ids"},
    "unet": {
        "sample", "timestep", "encoder_hidden_states", "text_embeds", "time_ids", "timestep_cond",
    },
    "vae_decoder": {"latent_sample"},
}  # fmt: skip


def check_inputs(path: Path, component: str, names: Iterable[str]) -> None:
    """A model that was opened is that of its part.

    Raises:
        InputError: it takes what no part of that name is given.
    """
    other = set(names) - _INPUTS.get(component, set())
    if other:
        raise InputError(
            f"`{path}` must be the model of a {component}, which takes "
            + ", ".join(sorted(_INPUTS.get(component, set()))),
            f"one that takes {', '.join(sorted(other))}",
        )


def given(inputs: Mapping[str, Array], name: str, component: str) -> Array:
    """A part's input.

    Raises:
        InputError: the part is of another kind of pipeline.
    """
    if name not in inputs:
        raise InputError(
            f"the {component} must take only {', '.join(inputs)} in this pipeline", name
        )
    return inputs[name]


def taken(outputs: Arrays, name: str, component: str, shape: tuple[int | None, ...]) -> Array:
    """A part's output, in the shape that the rest of the folder promises; None: any length.

    Raises:
        InputError: it is not there, or of another shape.
    """
    found = outputs[name].shape if name in outputs else None
    lengths = zip(shape, found or (), strict=False)
    fits = all(want in (None, has) for want, has in lengths)
    if found is None or len(found) != len(shape) or not fits:
        raise InputError(
            f"the {component} must give `{name}` of shape {[*shape]}".replace("None", "any"),
            "none" if found is None else str([*found]),
            "It is the model of another pipeline.",
        )
    return outputs[name]


def single(values: Array) -> Array:
    """Half precision to float32, in which samplers compute."""
    return values.astype(np.float32) if values.dtype == np.float16 else values
