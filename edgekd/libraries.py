"""Import diffusers and transformers through here.

torchvision is optional for edgekd, but transformers imports it where it is
installed. A torchvision whose binary does not match torch (a CPU torch beside
a registry's torchvision) fails with `operator torchvision::nms does not
exist`, and takes diffusers' pipelines down with it. Declaring the operators
lets the import go on; edgekd calls none of them.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import importlib.util
import logging
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch


def _declare_missing_operators() -> Any:
    if importlib.util.find_spec("torchvision") is None:
        return None
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    else:
        return None
    make_library: Any = torch.library.Library  # untyped in some torch versions
    library = make_library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """What is imported stays: searching it for garbage again and again is a sixth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


# diffusers would read the file lists of all that is installed, which takes half a second, for the
# sake of three packages that edgekd does not use, and warn that optimum and optimum-onnx share a
# name.
with _uncollected(), mock.patch.object(importlib.metadata, "packages_distributions", dict):
    _TORCHVISION_OPERATORS = _declare_missing_operators()
    import diffusers
    import transformers

# Their warnings are for whoever writes code with them: of settings that edgekd knows about, of
# prompts that are cut, which edgekd says itself.
for _library in (diffusers, transformers):
    _library.utils.logging.set_verbosity_error()
# diffusers imports it where it is installed; it warns of kernels that edgekd has no use for.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

__all__ = ["diffusers", "transformers"]
