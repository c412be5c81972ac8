"""`torch.compile` for models that train or teach."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch._dynamo.exc import TorchDynamoException

from edgekd.errors import InputError


@contextlib.contextmanager
def compiled(*models: Any) -> Iterator[None]:
    """These models' forward passes, compiled at their first call, until the context is left.

    Only `forward` of each is replaced: names of weights, hooks on the model itself and what is
    saved of it stay. Hooks on its layers are compiled too, those that are there at the first
    call: register them before, and remove them after.

    Raises:
        InputError: this machine cannot compile.
    """
    for model in models:
        model.forward = torch.compile(model.forward)
    try:
        with warnings.catch_warnings():
            # diffusers asks for versions of packages in functions that remember their answers.
            warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")
            yield
    except TorchDynamoException as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            "`distill.compile` needs what torch.compile needs (on a CPU, a C++ compiler)",
            reason,
            "Install it, or leave `distill.compile` off.",
        ) from error
    finally:
        for model in models:
            del model.forward  # the class's own again
