"""ONNX for onnxruntime, in the layout that optimum's `ORTStableDiffusionPipeline` loads.

`<out>/{text_encoder,text_encoder_2,unet,vae_encoder,vae_decoder}/model.onnx`, each with its
`config.json`, beside `tokenizer/`, `scheduler/` and `model_index.json`. A model above 2 GB, the
limit of one protobuf message, keeps its weights in `model.onnx_data`. The precisions `ort-*` are
for onnxruntime's mobile packages and have `model.ort` instead.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import torch

from edgekd.export.bits.apply import MIXED, MIXED_FLOORS
from edgekd.export.bits.storage import PartBits
from edgekd.export.bits.weights import captured_model
from edgekd.export.checks import find_precision
from edgekd.export.job import export_pipeline
from edgekd.export.large import is_large
from edgekd.export.manifest import Tuning
from edgekd.export.onnx import arithmetic as rounding
from edgekd.export.onnx.bits import ONNX_STORAGE, store_bits
from edgekd.export.onnx.graph import OPSET, copy_model, save_model, write_onnx
from edgekd.export.onnx.mobile import to_ort_format
from edgekd.export.onnx.pipeline import (
    MODEL_FILE,
    ORT_FILE,
    OnnxRunner,
    load_onnx_pipeline,
    model_file,
)
from edgekd.export.onnx.precisions import PRECISIONS, Method
from edgekd.export.onnx.tune import tune
from edgekd.export.onnx.turns import load_onnx_in_turns
from edgekd.export.protocol import Conversion, Facts, Floors
from edgekd.export.record import Recording
from edgekd.export.simulate import Arithmetic
from edgekd.files import write_json
from edgekd.runtime.onnx_backend import ONNX


class OnnxExporter:
    """Exporter for onnxruntime. See `edgekd.export.protocol.Exporter`."""

    runtime = ONNX
    name = runtime.name
    export = export_pipeline
    precisions: tuple[str, ...] = tuple(PRECISIONS)
    # optimum's pipelines run diffusers' own scheduler classes.
    schedulers: tuple[str, ...] = (
        "DDIMScheduler",
        "DDPMScheduler",
        "DPMSolverMultistepScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
        "LCMScheduler",
        "LMSDiscreteScheduler",
        "PNDMScheduler",
        "TCDScheduler",
        "UniPCMultistepScheduler",
    )
    loading = """from optimum.onnxruntime import ORTDiffusionPipeline

pipeline = ORTDiffusionPipeline.from_pretrained("FOLDER")
pictures = pipeline(prompt, num_inference_steps={steps}, guidance_scale={scale}).images
pictures[0].save("picture.png")"""
    dynamic_shapes = True
    weight_storages = (ONNX_STORAGE,)
    from_files = precisions[1:]
    accepts_tiny_decoder = True
    # onnxruntime writes some lists of this format in the order of a seeded hash table.
    varying = tuple(name for name, precision in PRECISIONS.items() if precision.ort_format)

    def load(self, path: Path, threads: int = 0) -> Any:
        return load_onnx_pipeline(path, threads)

    def load_in_turns(self, path: Path, threads: int = 0) -> Any:
        """See `edgekd.export.protocol.LoadsInTurns`."""
        return load_onnx_in_turns(path, threads)

    def convert(self, part: Conversion, precision: str) -> Facts:
        """Write the model and `config.json` of one part."""
        how = find_precision(PRECISIONS, precision)
        with _float32(part) as (base, scratch):
            final = scratch / "final"
            method = how.method(part.capture.component)
            facts = _make(method, base, part.recordings, scratch, final)
            if how.ort_format:
                to_ort_format(final / MODEL_FILE, part.folder / ORT_FILE)
            else:
                for file in sorted(final.iterdir()):
                    file.replace(part.folder / file.name)
        write_json(part.folder / "config.json", part.capture.config)
        return {"quantization": facts} if facts else {}

    def convert_bits(self, part: Conversion, bits: PartBits) -> Facts:
        """See `edgekd.export.bits.storage.StoresBits`."""
        with _float32(part) as (base, _):
            model = onnx.load(base / MODEL_FILE)
        facts = store_bits(model, captured_model(part.capture), bits.bits)
        save_model(model, part.folder / MODEL_FILE)
        write_json(part.folder / "config.json", part.capture.config)
        return {"quantization": facts}

    def open_component(self, exported_path: Path, component: str) -> OnnxRunner:
        part = exported_path / component
        return OnnxRunner(model_file(part), torch.get_num_threads(), thrifty=is_large(part))

    def tune(self, path: Path, threads: int) -> Tuning:
        return tune(path, threads or torch.get_num_threads())

    def floors(self, precision: str) -> Floors:
        return MIXED_FLOORS if precision == MIXED else PRECISIONS[precision].floors

    def arithmetic(self, precision: str, component: str) -> Arithmetic | None:
        """See `edgekd.export.simulate.Simulates`."""
        return rounding.arithmetic(precision, component)

    def deployed_arithmetic(self, precision: str, component: str) -> Arithmetic | None:
        """The same: nothing else is deployed."""
        return rounding.arithmetic(precision, component)

    def facts(self) -> Facts:
        return {"opset": OPSET}


@contextlib.contextmanager
def _float32(part: Conversion) -> Iterator[tuple[Path, Path]]:
    """The folder of the part's float32 model, and one for scratch, in which it may be."""
    part.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".onnx-", dir=part.folder) as temporary:
        scratch, base = Path(temporary), part.base
        if base is None:
            # A folder of its own: large models are two files.
            base = scratch / "fp32"
            base.mkdir()
            write_onnx(part.capture, base / MODEL_FILE)
        yield base, scratch


def _make(
    method: Method | None, base: Path, recordings: list[Recording], scratch: Path, final: Path
) -> dict[str, Any]:
    """Write a part's model into the new folder `final`, from the float32 one in `base`."""
    final.mkdir()
    if method is not None:
        model, facts = method(base / MODEL_FILE, recordings, scratch)
        save_model(model, final / MODEL_FILE)
        return facts
    if base.is_relative_to(scratch):
        final.rmdir()
        base.rename(final)
    else:
        copy_model(base, final)
    return {}
