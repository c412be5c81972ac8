"""What a file is, by the names and shapes in its header."""

from pathlib import Path

import pytest
import torch
from fixtures.checkpoints import with_average
from safetensors.torch import save_file

from edgekd.diffusion.single_file.checkpoint import read_checkpoint
from edgekd.errors import InputError

State = dict[str, torch.Tensor]

UNET = "model.diffusion_model."
FIRST = f"{UNET}input_blocks.0.0.weight"
CLIP = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
OPEN_CLIP = "cond_stage_model.model.token_embedding.weight"
XL = (
    "conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight",
    "conditioner.embedders.1.model.token_embedding.weight",
)


def named(*names: str, channels: int = 4) -> State:
    state = {name: torch.zeros(1) for name in names}
    return {**state, FIRST: torch.zeros(8, channels, 3, 3)} if FIRST in names else state


def read(state: State, path: Path, **metadata: str):
    save_file(state, path / "model.safetensors", metadata or None)
    return read_checkpoint(path / "model.safetensors")


@pytest.mark.parametrize(
    ("names", "family"), [((CLIP,), "sd1"), ((OPEN_CLIP,), "sd2"), (XL, "sdxl")]
)
def test_families(names, family, tmp_path):
    checkpoint = read(named(FIRST, *names), tmp_path, **{"modelspec.resolution": "512x512"})
    assert checkpoint.family == family
    assert checkpoint.metadata == {"modelspec.resolution": "512x512"}
    assert list(checkpoint.part(UNET)) == ["input_blocks.0.0.weight"]


OTHERS = [
    (named("lora_unet_x.lora_down.weight"), "a LoRA in model.safetensors. Pass it to `edgekd"),
    (named("unet.x.lora_A.weight"), "a LoRA in"),
    (named("text_encoder.x.lora_linear_layer.down.weight"), "a LoRA in"),
    (named("lycoris_x.hada_w1_a"), "a LoHa"),
    (named("lycoris_x.lokr_w1"), "a LoKr"),
    (named(f"{UNET}joint_blocks.0.x_block.attn.qkv.weight"), "Stable Diffusion 3"),
    (named("transformer_blocks.0.attn.add_k_proj.weight"), "Stable Diffusion 3 or Flux"),
    (named(f"{UNET}double_blocks.0.img_attn.qkv.weight"), "Flux"),
    (named("double_blocks.0.img_attn.qkv.weight"), "Flux"),
    (named("control_model.input_blocks.0.0.weight"), "a ControlNet"),
    (named("controlnet_cond_embedding.conv_in.weight"), "a ControlNet"),
    (named("down_blocks.0.motion_modules.0.norm.weight"), "AnimateDiff"),
    (named(FIRST, *XL, "edm_mean"), "Playground v2.5"),
    (named("emb_params"), "a textual inversion"),
    (named("down_blocks.0.resnets.0.conv1.weight"), "one component of a diffusers folder"),
    (named("text_model.encoder.layers.0.mlp.fc1.weight"), "a text encoder"),
    (named("decoder.conv_in.weight"), "a VAE alone in model.safetensors. Pass the checkpoint"),
    (named("first_stage_model.decoder.conv_in.weight"), "a VAE alone"),
    (named(FIRST, "conditioner.embedders.0.model.ln_final.weight"), "the refiner"),
    (named(FIRST, CLIP, channels=9), "a model for inpainting"),
    (named(FIRST, OPEN_CLIP, channels=5), "a model for depth to image"),
    (named(FIRST, OPEN_CLIP, channels=7), "a model for upscaling"),
    (named(FIRST, CLIP, channels=8), "a model for editing pictures"),
    (named(FIRST, OPEN_CLIP, f"{UNET}label_emb.0.0.weight"), "unCLIP"),
    (named(FIRST), "text encoders of none"),
    (named("x"), "something else (`x`)"),
    ({}, "no tensor at all"),
]


@pytest.mark.parametrize(("state", "said"), OTHERS, ids=[said for _, said in OTHERS])
def test_other_files_are_named(state, said, tmp_path):
    with pytest.raises(InputError, match="must hold all of a Stable Diffusion") as error:
        read(state, tmp_path)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("length", [0, 4, 40])
def test_a_file_that_was_cut(length, tmp_path):
    file = tmp_path / "model.safetensors"
    save_file(named(FIRST, CLIP), file)
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(InputError, match=f"whole safetensors file, but got {length} bytes"):
        read_checkpoint(file)


def test_an_average_counts_only_as_a_whole(tmp_path):
    plain = named(FIRST, f"{UNET}out.2.bias", CLIP)
    assert read(plain, tmp_path).ema is None
    whole = with_average(plain)
    ema = read(whole, tmp_path).ema
    assert ema is not None
    assert ema["out.2.bias"].name == "model_ema.diffusion_modelout2bias"
    part = {k: x for k, x in whole.items() if k != "model_ema.diffusion_modelout2bias"}
    assert read(part, tmp_path).ema is None


def test_what_nothing_is_made_of_is_listed(tmp_path):
    derived = ("betas", "sqrt_alphas_cumprod", "model_ema.num_updates", "denoiser.sigmas")
    checkpoint = read(named(FIRST, CLIP, *derived, "extra.weight", "another"), tmp_path)
    assert checkpoint.unused() == ["another", "extra.weight"]
