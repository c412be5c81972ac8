"""OpenVINO IR, in the layout that optimum-intel's `OVStableDiffusionPipeline` and
`openvino_genai.Text2ImagePipeline` load.

`<out>/{text_encoder,text_encoder_2,unet,vae_encoder,vae_decoder}/openvino_model.{xml,bin}`, each
with its `config.json`, beside `tokenizer/` (with its OpenVINO form), `scheduler/` and
`model_index.json`.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from edgekd.export.arithmetic import Arithmetic
from edgekd.export.bits.apply import MIXED, MIXED_FLOORS
from edgekd.export.bits.storage import PartBits
from edgekd.export.bits.weights import captured_model
from edgekd.export.checks import find_precision
from edgekd.export.job import export_pipeline
from edgekd.export.manifest import Tuning
from edgekd.export.openvino import arithmetic as rounding
from edgekd.export.openvino.bits import OPENVINO_STORAGE, store_bits
from edgekd.export.openvino.graph import read_model, save_model, to_openvino
from edgekd.export.openvino.libraries import quiet
from edgekd.export.openvino.pipeline import (
    OpenVinoRunner,
    deployed_arithmetic,
    load_openvino_in_turns,
    load_openvino_pipeline,
    stored_options,
)
from edgekd.export.openvino.precisions import PRECISIONS
from edgekd.export.openvino.tokenizer import convert_tokenizers
from edgekd.export.openvino.tune import tune
from edgekd.export.protocol import Conversion, Facts, Floors
from edgekd.files import write_json
from edgekd.runtime.openvino_backend import EXACT, OPENVINO


class OpenVinoExporter:
    """Exporter for OpenVINO. See `edgekd.export.protocol.Exporter`."""

    runtime = OPENVINO
    name = runtime.name
    export = export_pipeline
    precisions: tuple[str, ...] = tuple(PRECISIONS)
    # What GenAI knows; optimum-intel's pipelines run any scheduler of diffusers.
    schedulers: tuple[str, ...] = (
        "DDIMScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "LCMScheduler",
        "PNDMScheduler",
    )
    loading = """from optimum.intel import OVDiffusionPipeline

pipeline = OVDiffusionPipeline.from_pretrained("FOLDER")
pictures = pipeline(prompt, num_inference_steps={steps}, guidance_scale={scale}).images
pictures[0].save("picture.png")

# or, without torch, OpenVINO GenAI:
import openvino_genai

pipeline = openvino_genai.Text2ImagePipeline("FOLDER", "CPU")
pictures = pipeline.generate(prompt, num_inference_steps={steps}, guidance_scale={scale}).data"""
    dynamic_shapes = True
    weight_storages = (OPENVINO_STORAGE,)
    from_files = precisions[1:]
    accepts_tiny_decoder = True
    varying: tuple[str, ...] = ()

    def write_client_files(self, folder: Path) -> None:
        """What GenAI needs beside the parts; see `WritesClientFiles`."""
        convert_tokenizers(folder)

    repeated: tuple[str, ...] = ()  # see `edgekd.export.simulate.Simulates`

    def load(self, path: Path, threads: int = 0) -> Any:
        return load_openvino_pipeline(path, threads)

    def load_in_turns(self, path: Path, threads: int = 0) -> Any:
        """See `edgekd.export.protocol.LoadsInTurns`."""
        return load_openvino_in_turns(path, threads)

    def convert(self, part: Conversion, precision: str) -> Facts:
        """Write `openvino_model.xml`, `openvino_model.bin` and `config.json` of one part."""
        method = find_precision(PRECISIONS, precision).method(part.capture.component)
        facts: Facts = {}
        with _float32(part, precision) as model:
            if method is not None:
                with quiet():
                    model, how = method(model, part.recordings)
                facts = {"quantization": how}
            save_model(model, part.folder, precision)
            del model
        write_json(part.folder / "config.json", part.capture.config)
        return facts

    def convert_bits(self, part: Conversion, bits: PartBits) -> Facts:
        """See `edgekd.export.bits.storage.StoresBits`."""
        with _float32(part, MIXED) as model:
            facts = store_bits(model, captured_model(part.capture), bits.bits)
            save_model(model, part.folder, MIXED)
            del model
        write_json(part.folder / "config.json", part.capture.config)
        return {"quantization": facts}

    def open_component(self, exported_path: Path, component: str) -> OpenVinoRunner:
        return OpenVinoRunner(exported_path / component, EXACT, torch.get_num_threads())

    def open_deployed(self, exported_path: Path, component: str) -> OpenVinoRunner:
        stored = stored_options(exported_path, component)
        arithmetic = stored.arithmetic or deployed_arithmetic()
        return OpenVinoRunner(exported_path / component, arithmetic, torch.get_num_threads())

    def tune(self, path: Path, threads: int) -> Tuning:
        return tune(path, threads)

    def floors(self, precision: str) -> Floors:
        return MIXED_FLOORS if precision == MIXED else PRECISIONS[precision].floors

    def arithmetic(self, precision: str, component: str) -> Arithmetic | None:
        """See `edgekd.export.simulate.Simulates`."""
        return rounding.arithmetic(precision, component)

    def deployed_arithmetic(self, precision: str, component: str) -> Arithmetic | None:
        """See `edgekd.export.simulate.Simulates`."""
        return rounding.deployed_arithmetic(precision, component)

    def facts(self) -> Facts:
        return {}


@contextlib.contextmanager
def _float32(part: Conversion, precision: str) -> Iterator[Any]:
    """The part in float32, to make another precision of.

    Other precisions than fp32 start from a file, with or without a base: names inside a model that
    was read differ from those of one that was just converted, and would make other files.
    """
    part.folder.mkdir(parents=True, exist_ok=True)
    if part.base is not None:
        yield read_model(part.base)
        return
    model = to_openvino(part.capture)
    if precision == "fp32":
        yield model
        return
    with tempfile.TemporaryDirectory(prefix=".openvino-", dir=part.folder) as scratch:
        saved = Path(scratch) / part.capture.component
        saved.mkdir()
        save_model(model, saved, "fp32")
        del model
        yield read_model(saved)
