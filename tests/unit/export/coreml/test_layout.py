from typing import Any

import numpy as np
import pytest
import torch

from edgekd.diffusion.load import load_pipeline
from edgekd.export.capture import capture
from edgekd.export.coreml.layout import AppleModule, example_tensors, make_layout
from edgekd.export.outline import component_names

# From swift/StableDiffusion/pipeline/*.swift of apple/ml-stable-diffusion, at the sizes of the tiny
# teachers: 8x8 latents, 24 tokens, text widths 32 and 48.
IDS = {"input_ids": (1, 24)}
VAE = {
    "vae_encoder": ("VAEEncoder", {"x": (1, 3, 32, 32)}, ["latent"]),
    "vae_decoder": ("VAEDecoder", {"z": (1, 4, 8, 8)}, ["image"]),
}
CALL = {"sample": (2, 4, 8, 8), "timestep": (2,)}
UNET = {**CALL, "encoder_hidden_states": (2, 32, 1, 24)}
UNET_XL = {**CALL, "encoder_hidden_states": (2, 80, 1, 24)}
UNET_XL |= {"text_embeds": (2, 32), "time_ids": (2, 6)}
EXPECTED = {
    "tiny_teacher": {
        "text_encoder": ("TextEncoder", IDS, ["last_hidden_state", "pooled_outputs"]),
        **VAE,
        "unet": ("Unet", UNET, ["noise_pred"]),
    },
    "tiny_sdxl_teacher": {
        "text_encoder": ("TextEncoder", IDS, ["pooled_outputs", "hidden_embeds"]),
        "text_encoder_2": ("TextEncoder2", IDS, ["pooled_outputs", "hidden_embeds"]),
        **VAE,
        "unet": ("Unet", UNET_XL, ["noise_pred"]),
    },
}


@pytest.mark.parametrize("teacher", EXPECTED)
def test_names_and_shapes_are_those_of_apples_package(request, teacher):
    pipeline = load_pipeline(request.getfixturevalue(teacher))
    assert set(component_names(pipeline)) == set(EXPECTED[teacher])
    for name, (package, inputs, outputs) in EXPECTED[teacher].items():
        captured = capture(pipeline, name)
        layout = make_layout(name, tuple(captured.example_inputs), captured.outputs)
        examples = example_tensors(captured, layout)
        assert layout.package == package
        assert {key: tuple(tensor.shape) for key, tensor in examples.items()} == inputs
        assert all(tensor.dtype == torch.float32 for tensor in examples.values())
        assert list(layout.outputs.values()) == outputs


@pytest.mark.parametrize("teacher", EXPECTED)
def test_apples_inputs_give_what_the_pipelines_parts_give(request, teacher):
    pipeline = load_pipeline(request.getfixturevalue(teacher))
    for name in component_names(pipeline):
        captured = capture(pipeline, name)
        layout = make_layout(name, tuple(captured.example_inputs), captured.outputs)
        size = layout.batch
        own = {k: t[:size] if t.ndim else t for k, t in captured.example_inputs.items()}
        with torch.inference_mode():
            expected = dict(zip(captured.outputs, captured.module(*own.values()), strict=True))
            found = AppleModule(captured, layout)(*example_tensors(captured, layout).values())
        for key, tensor in zip(layout.outputs, found, strict=True):
            torch.testing.assert_close(tensor, expected[key], rtol=0, atol=1e-6)


def test_sdxl_reads_the_last_but_one_hidden_state_and_each_encoders_own_pooling():
    hidden = tuple(f"hidden_states.{index}" for index in range(13))
    first = make_layout(
        "text_encoder", ("input_ids",), ("last_hidden_state", "pooler_output", *hidden)
    )
    second = make_layout(
        "text_encoder_2", ("input_ids",), ("text_embeds", "last_hidden_state", *hidden)
    )
    assert first.outputs == {"hidden_states.11": "hidden_embeds", "pooler_output": "pooled_outputs"}
    assert second.outputs == {"hidden_states.11": "hidden_embeds", "text_embeds": "pooled_outputs"}


def test_token_ids_survive_as_floats(tiny_teacher):
    """CLIP's largest id is not a float16 number; a float32 holds every one."""
    layout = make_layout("text_encoder", ("input_ids",), ("last_hidden_state", "pooler_output"))
    ids: Any = np.arange(49408, dtype=np.int64).reshape(-1, 1)
    assert (layout.to_apple({"input_ids": ids})["input_ids"].astype(np.int64) == ids).all()
