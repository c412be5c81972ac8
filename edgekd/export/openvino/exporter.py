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
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from edgekd.artifacts import write_json
from edgekd.errors import InputError
from edgekd.export.bits.apply import MIXED, PART_FLOOR, PICTURE_FLOOR
from edgekd.export.bits.weights import captured_model
from edgekd.export.capture import Capture
from edgekd.export.job import export_pipeline
from edgekd.export.openvino.bits import OPENVINO_STORAGE, store_bits
from edgekd.export.openvino.graph import read_model, save_model, to_openvino
from edgekd.export.openvino.pipeline import (
    EXACT,
    OpenVinoRunner,
    load_openvino_in_turns,
    load_openvino_pipeline,
    stored_options,
)
from edgekd.export.openvino.quantize import INTEGER_PARTS, quantize
from edgekd.export.openvino.tokenizer import convert_tokenizers
from edgekd.export.openvino.tune import tune
from edgekd.export.protocol import Floor
from edgekd.export.record import Recording

_LAST_STEP = (
    "the worst call is the last step, whose prediction enters the picture with a weight of 0.03; "
    "the figures are in openvino_quantize.py, the floor is 0.5 to 5 dB below the worst of them"
)
_ONE_CALL = "each picture passes it once: 30 dB below the output stay unseen"
_FLOAT = Floor(80.0, "float32 sums in another order keep 109 dB and more")
# Measured on starter teachers and students of them (guidance 4); the part's least SNR in dB.
_UNET_FLOORS = {
    "fp32": _FLOAT,
    "fp16": Floor(45.0, "weights of 11 bits keep 72 dB, on a network of random weights 51 dB"),
    "int8": Floor(28.0, _LAST_STEP),
    "int4": Floor(14.0, _LAST_STEP),
    "int8_full": Floor(11.0, _LAST_STEP),
    "hybrid": Floor(11.0, _LAST_STEP),
}
# The same in bf16 (operands of 8 bits, sums in float32), where the CPU has it.
_UNET_DEPLOYED_FLOORS = {
    **_UNET_FLOORS,
    "fp16": Floor(24.0, _LAST_STEP),
    "int8": Floor(22.0, _LAST_STEP),
    "int4": Floor(13.0, _LAST_STEP),
}
# Text encoders and VAE.
_OTHER_FLOORS = {"fp32": _FLOAT, "fp16": _UNET_FLOORS["fp16"]}
_OTHER_DEPLOYED_FLOORS = {"fp32": _FLOAT, "fp16": Floor(36.0, "bf16 keeps 40 dB and more")}
_QUANTIZED_FLOOR = Floor(30.0, _ONE_CALL)
_INTEGER_DECODER_FLOOR = Floor(
    21.0,
    "8-bit activations keep 39 dB on the pictures that they are calibrated on, 26 dB on others, "
    "27 dB on random weights fed with noise",
)
_SAME_PICTURE = "from 20 dB the same noise and prompt give a visibly different picture"
_PICTURE_FLOORS = {
    "fp32": Floor(50.0, "the error stays below one grey level of 255, which is 48 dB"),
    "fp16": Floor(32.0, "bf16 keeps 38 dB; 32 dB is an error of six grey levels"),
    "int8": Floor(28.0, "8-bit weights keep 34 dB in bf16"),
    "int4": Floor(22.0, f"4-bit weights keep 26 dB; {_SAME_PICTURE}"),
    "int8_full": Floor(22.0, f"8-bit activations keep 27 dB; {_SAME_PICTURE}"),
    "hybrid": Floor(22.0, f"28 dB are kept; {_SAME_PICTURE}"),
}


class OpenVinoExporter:
    """Exporter for OpenVINO. See `edgekd.export.protocol.Exporter`."""

    name = "openvino"
    export = export_pipeline
    precisions: tuple[str, ...] = ("fp32", "fp16", "int8", "int4", "int8_full", "hybrid")
    # What GenAI knows; optimum-intel's pipelines run any scheduler of diffusers.
    schedulers: tuple[str, ...] = (
        "DDIMScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "LCMScheduler",
        "PNDMScheduler",
    )
    dynamic_shapes = True
    weight_storages = (OPENVINO_STORAGE,)
    from_files = precisions[1:]
    accepts_tiny_decoder = True
    varying: tuple[str, ...] = ()

    def write_client_files(self, folder: Path) -> None:
        """What GenAI needs beside the parts; see `WritesClientFiles`."""
        convert_tokenizers(folder)

    def load(self, path: Path, threads: int = 0) -> Any:
        return load_openvino_pipeline(path, threads)

    def load_in_turns(self, path: Path, threads: int = 0) -> Any:
        """See `edgekd.export.protocol.LoadsInTurns`."""
        return load_openvino_in_turns(path, threads)

    def convert(
        self,
        capture: Capture,
        folder: Path,
        precision: str,
        recordings: list[Recording],
        base: Path | None = None,
    ) -> dict[str, Any]:
        """Write `openvino_model.xml`, `openvino_model.bin` and `config.json` of one part."""
        if precision not in self.precisions:
            raise InputError(
                f"the precision must be one of {', '.join(self.precisions)}", repr(precision)
            )
        folder.mkdir(parents=True, exist_ok=True)
        facts: dict[str, Any] = {}
        with _float32(capture, folder, precision, base) as model:
            if precision not in ("fp32", "fp16"):
                model, how = quantize(model, capture.component, precision, recordings)
                facts = {"quantization": how}
            save_model(model, folder, precision)
            del model
        write_json(folder / "config.json", capture.config)
        return facts

    def convert_bits(
        self,
        capture: Capture,
        folder: Path,
        method: str,
        bits: dict[str, int],
        recordings: list[Recording],
        base: Path | None = None,
    ) -> dict[str, Any]:
        """See `edgekd.export.bits.storage.StoresBits`."""
        del method, recordings  # one method, nothing to calibrate
        folder.mkdir(parents=True, exist_ok=True)
        with _float32(capture, folder, MIXED, base) as model:
            facts = {"quantization": store_bits(model, captured_model(capture), bits)}
            save_model(model, folder, MIXED)
            del model
        write_json(folder / "config.json", capture.config)
        return facts

    def open_component(self, exported_path: Path, component: str) -> OpenVinoRunner:
        return OpenVinoRunner(exported_path / component, EXACT, torch.get_num_threads())

    def open_deployed(self, exported_path: Path, component: str) -> OpenVinoRunner:
        arithmetic = stored_options(exported_path, component)["arithmetic"]
        return OpenVinoRunner(exported_path / component, arithmetic, torch.get_num_threads())

    def tune(self, path: Path, threads: int) -> dict[str, Any]:
        return tune(path, threads)

    def component_floor(self, component: str, precision: str) -> Floor:
        if precision == MIXED:
            return PART_FLOOR
        if component == "unet":
            return _UNET_FLOORS[precision]
        return _OTHER_FLOORS.get(precision, _quantized_floor(component, precision))

    def deployed_floor(self, component: str, precision: str) -> Floor:
        if precision == MIXED:
            return PART_FLOOR
        if component == "unet":
            return _UNET_DEPLOYED_FLOORS[precision]
        return _OTHER_DEPLOYED_FLOORS.get(precision, _quantized_floor(component, precision))

    def picture_floor(self, precision: str) -> Floor:
        return PICTURE_FLOOR if precision == MIXED else _PICTURE_FLOORS[precision]

    def facts(self) -> dict[str, Any]:
        names = ("openvino", "openvino-tokenizers", "nncf", "optimum-intel")
        return {"versions": {name: version(name) for name in names}}


def _quantized_floor(component: str, precision: str) -> Floor:
    integers = component in INTEGER_PARTS.get(precision, ())
    return _INTEGER_DECODER_FLOOR if integers else _QUANTIZED_FLOOR


@contextlib.contextmanager
def _float32(capture: Capture, folder: Path, precision: str, base: Path | None) -> Iterator[Any]:
    """The part in float32, to make another precision of.

    Other precisions than fp32 start from a file, with or without a base: names inside a model that
    was read differ from those of one that was just converted, and would make other files.
    """
    if precision == "fp32" or base is not None:
        yield to_openvino(capture) if base is None else read_model(base)
        return
    with tempfile.TemporaryDirectory(prefix=".openvino-", dir=folder) as scratch:
        saved = Path(scratch) / capture.component
        saved.mkdir()
        save_model(to_openvino(capture), saved, "fp32")
        yield read_model(saved)
