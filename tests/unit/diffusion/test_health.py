"""Dead parts are named before any training; random ones are alive."""

import shutil
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from edgekd.diffusion.health import check_parts
from edgekd.diffusion.validate import inspect_folder
from edgekd.errors import InputError


def check(path: Path) -> None:
    check_parts(inspect_folder(path))


@pytest.mark.parametrize(
    "fixture", ["tiny_teacher", "tiny_sd2_teacher", "tiny_sdxl_teacher", "tiny_lcm_student"]
)
def test_random_weights_are_alive(fixture, request):
    check(request.getfixturevalue(fixture))


def test_the_starter_takes_no_second(starter_teacher):
    info = inspect_folder(starter_teacher)
    check_parts(info)  # the first run of a process loads kernels
    started = time.process_time()
    check_parts(info)
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("component", "tensors", "factor", "said"),
    [
        ("unet", "conv_out", 0, "output of the unet"),
        ("unet", "conv_in.weight", 0, "output of the unet"),
        ("unet", "", 0, "output of the unet"),
        ("unet", "conv_in.weight", 1e38, "output of the unet"),
        ("vae", "encoder.conv_out.weight", 0, "output of the vae_encoder"),
        ("vae", "decoder.conv_out", 0, "output of the vae_decoder"),
        ("vae", "post_quant_conv.weight", 0, "output of the vae_decoder"),
        ("text_encoder", "token_embedding", 0, "output of the text_encoder"),
        ("text_encoder", "final_layer_norm.weight", 0, "output of the text_encoder"),
        ("text_encoder_2", "text_projection", 0, "output of the text_encoder_2"),
        ("vae", "decoder.conv_in.weight", float("nan"), "must be finite"),
    ],
)
def test_dead_parts_are_named(component, tensors, factor, said, tiny_sdxl_teacher, tmp_path):
    folder = Path(shutil.copytree(tiny_sdxl_teacher, tmp_path / "teacher"))
    (file,) = (folder / component).glob("*.safetensors")
    state = load_file(file)
    chosen = [name for name in state if tensors in name]
    assert chosen
    for name in chosen:
        state[name] = state[name] * factor
    save_file(state, file)
    with pytest.raises(InputError, match=said):
        check(folder)
