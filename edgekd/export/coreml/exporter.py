"""Core ML packages for Apple's Swift package `StableDiffusion`.

`<out>/{text_encoder,text_encoder_2,unet,vae_encoder,vae_decoder}/<Package>.mlpackage`, each with
its `config.json`, beside `tokenizer/`, `scheduler/` and `model_index.json`; and `Resources/` with
the tokenizer's files, into which `compile.sh` compiles the packages on a Mac. `Resources/` is then
what the Swift package loads. Shapes are fixed: one export per picture size.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from edgekd.errors import InputError
from edgekd.export.arithmetic import Arithmetic
from edgekd.export.bits.apply import MIXED
from edgekd.export.bits.storage import PartBits
from edgekd.export.capture import Capture
from edgekd.export.checks import find_precision
from edgekd.export.coreml import arithmetic as rounding
from edgekd.export.coreml.activations import calibrate, rounded_inputs
from edgekd.export.coreml.bits import COREML_STORAGE, compress_bits
from edgekd.export.coreml.compress import compress
from edgekd.export.coreml.convert import largest_activation, needs_float32, to_coreml
from edgekd.export.coreml.layout import make_layout
from edgekd.export.coreml.mil.evaluator import PackageEvaluator
from edgekd.export.coreml.package import PackageRunner, load_model, write_package
from edgekd.export.coreml.pipeline import load_coreml_pipeline
from edgekd.export.coreml.precisions import PRECISIONS, CoreMlPrecision
from edgekd.export.job import export_pipeline
from edgekd.export.protocol import Conversion, Facts, Floors
from edgekd.runtime.coreml_backend import COREML
from edgekd.runtime.coreml_layout import PACKAGES, Layout

RESOURCES = "Resources"
COMPILE_SCRIPT = "compile.sh"
_COMPILE = """#!/bin/sh
# Compiles the packages into Resources/ on a Mac with Xcode; then load Resources/ in your app.
set -e
cd "$(dirname "$0")"
for package in */*.mlpackage; do
  xcrun coremlcompiler compile "$package" Resources/
done
"""


class CoreMlExporter:
    """Exporter for Core ML. See `edgekd.export.protocol.Exporter`."""

    runtime = COREML
    name = runtime.name
    export = export_pipeline
    precisions: tuple[str, ...] = tuple(PRECISIONS)
    # `StableDiffusionScheduler` of Apple's Swift package 1.1.
    schedulers: tuple[str, ...] = (
        "DPMSolverMultistepScheduler",
        "EulerAncestralDiscreteScheduler",
        "PNDMScheduler",
    )
    dynamic_shapes = False
    weight_storages = (COREML_STORAGE,)
    accepts_tiny_decoder = True
    # coremltools has once been seen to write another package of the same part. It is not the hash
    # seed, the order of sets of the U-Net's operations, or what other exporters leave in the
    # process: each of these was varied, and the bytes stayed the same.
    varying: tuple[str, ...] = tuple(PRECISIONS)

    repeated: tuple[str, ...] = ()  # see `edgekd.export.simulate.Simulates`

    def load(self, path: Path, threads: int = 0) -> Any:
        return load_coreml_pipeline(path, threads)

    def convert(self, part: Conversion, precision: str) -> Facts:
        """Write the package of one part, and with the text encoder the tokenizer's files."""
        chosen = find_precision(PRECISIONS, precision)
        recipe, module = chosen.recipe, part.capture.module
        store = None if recipe is None else lambda model: compress(model, module, recipe)
        return _write_part(part, chosen, store)

    def convert_bits(self, part: Conversion, bits: PartBits) -> Facts:
        """See `edgekd.export.bits.storage.StoresBits`."""

        def store(model: Any) -> tuple[Any, Facts]:
            return compress_bits(model, part.capture, bits.bits)

        return _write_part(part, PRECISIONS[MIXED], store)

    def open_component(self, exported_path: Path, component: str) -> PackageRunner:
        return PackageRunner(exported_path / component, component)

    def not_executed_here(self) -> str:
        if self.runtime.executes_here():
            return ""
        return f"{PackageEvaluator.executed_by}: Core ML exists on macOS and iOS only"

    def drawing_warning(self, scheduler: Mapping[str, Any], steps: int) -> str | None:
        """See `edgekd.export.protocol.KnowsItsClients`: Apple's solver is of second order.

        It draws as one of first order in its first step and in the last, to no noise at all.
        """
        name, order = scheduler["_class_name"], scheduler.get("solver_order")
        if name != "DPMSolverMultistepScheduler" or order != 1 or steps <= 2:
            return None
        return (
            "the pipeline's DPM-Solver++ is of first order, that of Apple's package of second: in "
            f"{steps} steps they differ, draw with edgekd's app for Apple's systems or another loop"
        )

    def bits_per_weight(self, precision: str) -> float:
        return find_precision(PRECISIONS, precision).bits_per_weight

    def floors(self, precision: str) -> Floors:
        return PRECISIONS[precision].floors

    def arithmetic(self, precision: str, component: str) -> Arithmetic | None:
        """See `edgekd.export.simulate.Simulates`."""
        return rounding.arithmetic(precision, component)

    def deployed_arithmetic(self, precision: str, component: str) -> Arithmetic | None:
        """The same: nothing else is deployed."""
        return rounding.arithmetic(precision, component)

    def facts(self) -> Facts:
        return {"compile": f"sh {COMPILE_SCRIPT}", "packages": PACKAGES}


def _write_part(
    part: Conversion, chosen: CoreMlPrecision, store: Callable[[Any], tuple[Any, Facts]] | None
) -> Facts:
    """Write a part; `store` puts the weights of the converted model in fewer bits."""
    capture = part.capture
    layout = make_layout(capture.component, tuple(capture.example_inputs), tuple(capture.outputs))
    largest = largest_activation(capture, part.recordings)
    model, facts = _model(part, layout, chosen, needs_float32(largest))
    if store is not None:
        model, facts["quantization"] = store(model)
    write_package(model, part.folder, layout, capture.config)
    if capture.component.startswith("text_encoder"):
        write_resources(part.folder.parent)
    return {
        "package": f"{capture.component}/{layout.package}.mlpackage",
        "compute_precision": "float32" if needs_float32(largest) else "float16",
        "largest_activation": round(largest, 3),
        **facts,
        **_scale_factor(capture),
    }


def _model(
    part: Conversion, layout: Layout, chosen: CoreMlPrecision, in_float32: bool
) -> tuple[Any, Facts]:
    """The converted part before its weights are compressed, and facts on it."""
    first = next(iter(PRECISIONS.values()))
    if part.base is not None and not chosen.activations and chosen.target == first.target:
        return load_model(part.base, layout), {"target": chosen.target}
    scales = calibrate(part.capture, part.recordings) if chosen.activations else {}
    hooks = rounded_inputs(part.capture.module, scales) if scales else nullcontext()
    model = to_coreml(part.capture, layout, chosen.target, in_float32, hooks)
    facts: Facts = {"target": chosen.target}
    if scales:
        facts["activations"] = {"bits": 8, "layers": len(scales), "calls": len(part.recordings)}
    return model, facts


def _scale_factor(capture: Capture) -> Facts:
    """What an app sets as `encoderScaleFactor` and `decoderScaleFactor`."""
    if not capture.component.startswith("vae"):
        return {}
    return {"scale_factor": capture.config["scaling_factor"]}


def write_resources(out: Path) -> None:
    """Write the files of `Resources/` that need no Mac, and the script that makes the others.

    A text encoder without a tokenizer is no pipeline's, but a graph that is timed: it gets none.

    Raises:
        InputError: the tokenizer is no byte-pair encoder, the only kind that Swift has.
    """
    folders = [path for path in (out / "tokenizer", out / "tokenizer_2") if path.is_dir()]
    if not folders:
        return
    tokenizer = folders[0]
    resources = out / RESOURCES
    resources.mkdir(exist_ok=True)
    for name in ("vocab.json", "merges.txt"):
        if not (tokenizer / name).is_file():
            raise InputError("the tokenizer must be a CLIP byte-pair encoder", f"no {name}")
        shutil.copyfile(tokenizer / name, resources / name)
    (out / COMPILE_SCRIPT).write_text(_COMPILE, encoding="utf-8")
