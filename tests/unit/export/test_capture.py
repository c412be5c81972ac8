from types import SimpleNamespace
from typing import Any

import pytest

from edgekd.diffusion.load import load_pipeline
from edgekd.errors import InputError
from edgekd.export.capture import capture, unet_inputs
from edgekd.export.outline import component_names, picture_multiple


def _unet_config(**changes: Any) -> Any:
    plain = {"addition_embed_type": None, "time_cond_proj_dim": None}
    return SimpleNamespace(**{**plain, **changes})


def test_names_are_those_of_optimum(tiny_sdxl_teacher):
    pipeline = load_pipeline(tiny_sdxl_teacher)
    assert component_names(pipeline)[-1] == "unet"  # the largest, when all others are released
    names = {
        name: (tuple(captured.example_inputs), captured.outputs)
        for name in component_names(pipeline)
        for captured in [capture(pipeline, name)]
    }
    hidden = tuple(f"hidden_states.{index}" for index in range(3))
    assert names == {
        "text_encoder": (("input_ids",), ("last_hidden_state", "pooler_output", *hidden)),
        "text_encoder_2": (("input_ids",), ("text_embeds", "last_hidden_state", *hidden)),
        "vae_encoder": (("sample",), ("latent_parameters",)),
        "vae_decoder": (("latent_sample",), ("sample",)),
        "unet": (
            ("sample", "timestep", "encoder_hidden_states", "text_embeds", "time_ids"),
            ("out_sample",),
        ),
    }


def test_captures_carry_no_machine_paths(tiny_teacher):
    pipeline = load_pipeline(tiny_teacher)
    for name in component_names(pipeline):
        assert str(tiny_teacher.parent) not in str(capture(pipeline, name).config)


def test_guidance_conditioned_unets_have_a_further_input():
    assert unet_inputs(_unet_config(time_cond_proj_dim=256))[3:] == ("timestep_cond",)


@pytest.mark.parametrize(
    "condition",
    [
        {"class_embed_type": "timestep"},
        {"addition_embed_type": "image"},
        {"encoder_hid_dim_type": "text_proj"},
        {"num_class_embeds": 10},
    ],
)
def test_unknown_conditioning_is_refused(condition):
    ((name, value),) = condition.items()
    with pytest.raises(InputError, match=f"{name}={value}"):
        unet_inputs(_unet_config(**condition))


def test_picture_sides_follow_stages_and_decoder(tiny_teacher):
    assert picture_multiple(load_pipeline(tiny_teacher)) == 4 * 8
