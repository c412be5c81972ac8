"""What OpenVINO and Core ML store and compute, against torch with rounded weights."""

from typing import Any

import numpy as np
import pytest
import torch

from edgekd.diffusion.load import load_pipeline
from edgekd.export.bits.recipe import ComponentRecipe, QuantizationRecipe, resolve
from edgekd.export.bits.sensitivity import rounded
from edgekd.export.bits.storage import PartBits, WeightStorage
from edgekd.export.bits.weights import models, of_part
from edgekd.export.capture import capture
from edgekd.export.outline import PIPELINE_ATTRIBUTES
from edgekd.export.parity import snr_db
from edgekd.export.protocol import Conversion
from edgekd.export.record import Session, record_denoising_inputs
from edgekd.export.registry import get_exporter

PARTS = ("text_encoder", "unet", "vae_decoder")
# Of OpenVINO: sums in another order. Of Core ML: the input is rounded to float16.
LEAST_DB = {"openvino": 80.0, "coreml": 45.0}
FEW = {
    "unet": {"mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight": 4},
    "text_encoder": {"text_model.encoder.layers.0.mlp.fc1.weight": 4},
    "vae": {"decoder.mid_block.resnets.0.conv1.weight": 4},
}


@pytest.fixture(scope="module")
def pipeline(shallow_teacher) -> Any:
    return load_pipeline(shallow_teacher)


@pytest.fixture(scope="module")
def recordings(pipeline) -> Any:
    session = Session(prompts=("red apple",), steps=2, guidance_scale=3.0)
    return record_denoising_inputs(pipeline, session).recordings


def bits_of(pipeline: Any, storage: WeightStorage) -> Any:
    recipe = QuantizationRecipe(
        format=1,
        method=storage.method,
        components={
            name: ComponentRecipe(
                default=8, bits=few if 4 in storage.choices("conv", (64, 64)) else {}
            )
            for name, few in FEW.items()
        },
    )
    return resolve(recipe, models(pipeline), storage)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("runtime", ["openvino", "coreml"])
def test_part_computes_what_torch_does_with_rounded_weights(
    pipeline, recordings, tmp_path, runtime, part
):
    exporter: Any = get_exporter(runtime)
    (storage,) = exporter.weight_storages
    bits = bits_of(pipeline, storage)
    captured = capture(pipeline, part)
    own = of_part(bits[PIPELINE_ATTRIBUTES[part]], part)
    few = {name: count for name, count in own.items() if count is not None}
    # A text encoder's files go beside the tokenizer's.
    pipeline.tokenizer.save_pretrained(tmp_path / "tokenizer")
    facts = exporter.convert_bits(
        Conversion(captured, tmp_path / part, recordings[part]), PartBits(storage.method, few)
    )
    stored = facts["quantization"]["bits_by_tensor"]
    missing = set(few) - set(stored)
    # Fixed shapes: Core ML computes the rows of the position table away.
    assert missing <= {"text_model.embeddings.position_embedding.weight"}
    assert stored == {name: few[name] for name in stored}
    call = recordings[part][-1]
    found = models(pipeline)
    kept = {PIPELINE_ATTRIBUTES[part]: {name: stored.get(name) for name in own}}
    with torch.inference_mode(), rounded(found, kept, storage):
        expected = captured.module(
            *(torch.from_numpy(call.inputs[name]) for name in captured.example_inputs)
        )
    outputs = exporter.open_component(tmp_path, part)(call.inputs)
    for name, value in zip(captured.outputs, expected, strict=True):
        if name in outputs:
            assert snr_db(value.numpy(), outputs[name]) > LEAST_DB[runtime]
    with torch.inference_mode():
        (untouched, *_) = captured.module(
            *(torch.from_numpy(call.inputs[name]) for name in captured.example_inputs)
        )
    assert not np.array_equal(untouched.numpy(), expected[0].numpy())
