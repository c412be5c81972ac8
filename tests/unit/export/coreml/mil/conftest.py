"""Builds small Core ML packages from MIL programs."""

import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

# The modules here share `mil_cases`.
sys.path.insert(0, str(Path(__file__).parent))

# (function of MIL inputs, input tensors) -> the saved package.
SavePackage = Callable[..., Path]


@pytest.fixture(scope="session")
def save_package(tmp_path_factory) -> SavePackage:
    """`save_package(build, inputs, target="iOS17")`: the program that `build(mb, *variables)`
    returns, saved as it is, without any optimisation."""
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    import coremltools as ct
    from coremltools.converters.mil import Builder as mb  # noqa: N813
    from coremltools.converters.mil.mil import types

    dtypes = {"float32": types.fp32, "float16": types.fp16, "int32": types.int32}

    def save(build: Callable[..., Any], inputs: Sequence[Any], target: str = "iOS17") -> Path:
        specs = [
            mb.TensorSpec(shape=tuple(value.shape), dtype=dtypes[str(value.dtype).split(".")[-1]])
            for value in inputs
        ]
        names = ("x", "y", "z", "w")[: len(specs)]
        arguments = ", ".join(names)
        # The builder takes input names from the function's own parameters.
        scope: dict[str, Any] = {"build": build, "mb": mb}
        exec(f"def program({arguments}): return build(mb, {arguments})", scope)
        opset = getattr(ct.target, target)
        program = mb.program(input_specs=specs, opset_version=opset)(scope["program"])
        path = tmp_path_factory.mktemp("mil") / "model.mlpackage"
        with warnings.catch_warnings():
            # coremltools leaves the removal of its temporary folder to the interpreter.
            warnings.simplefilter("ignore", ResourceWarning)
            ct.convert(
                program,
                source="milinternal",
                convert_to="mlprogram",
                minimum_deployment_target=opset,
                compute_precision=ct.precision.FLOAT32,
                pass_pipeline=ct.PassPipeline.EMPTY,
                skip_model_load=True,
            ).save(str(path))
        return path

    return save
