"""Import diffusers and transformers through here.

torchvision is optional for edgekd, but transformers imports it where it is
installed. A torchvision whose binary does not match torch (a CPU torch beside
a registry's torchvision) fails with `operator torchvision::nms does not
exist`, and takes diffusers' pipelines down with it. Declaring the operators
lets the import go on; edgekd calls none of them.
"""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

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


_TORCHVISION_OPERATORS = _declare_missing_operators()
# optimum and optimum-onnx share a package name: diffusers warns of that while it is imported.
logging.getLogger("diffusers.utils.import_utils").setLevel(logging.ERROR)

import diffusers  # noqa: E402
import transformers  # noqa: E402

# Their warnings are for whoever writes code with them: of settings that edgekd knows about, of
# prompts that are cut, which edgekd says itself.
for _library in (diffusers, transformers):
    _library.utils.logging.set_verbosity_error()

__all__ = ["diffusers", "transformers"]
