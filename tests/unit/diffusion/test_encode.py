from typing import Any

import pytest

CAPTIONS = ["a red apple", "grinning cat, fluent flat", "rocket " * 40]


@pytest.mark.parametrize(
    "fixture", ["tiny_teacher", "tiny_sd2_teacher", "tiny_sdxl_teacher", "starter_teacher"]
)
def test_equals_the_pipelines_encode_prompt(fixture, request):
    """Captions, and the empty caption as the pipeline's guidance embeds it."""
    import torch

    from edgekd.diffusion.encode import encode_prompts
    from edgekd.diffusion.load import load_teacher
    from edgekd.libraries import diffusers

    path = request.getfixturevalue(fixture)
    stock = diffusers.DiffusionPipeline.from_pretrained(
        path, local_files_only=True, torch_dtype=torch.float32
    )
    expected = stock.encode_prompt(
        CAPTIONS, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True
    )
    teacher = load_teacher(path)
    captions = encode_prompts(teacher, CAPTIONS)
    empty = encode_prompts(teacher, [""] * len(CAPTIONS))
    # 1e-6: files mapped by diffusers may be unaligned, which changes the order of sums.
    close: dict[str, Any] = {"atol": 1e-6, "rtol": 1e-5}
    torch.testing.assert_close(captions.encoder_hidden_states, expected[0], **close)
    torch.testing.assert_close(empty.encoder_hidden_states, expected[1], **close)
    if teacher.info.family == "sdxl":
        torch.testing.assert_close(captions.pooled, expected[2], **close)
        torch.testing.assert_close(empty.pooled, expected[3], **close)
    else:
        assert captions.pooled is None


def test_sdxl_without_forced_zeros_encodes_the_empty_prompt(tiny_sdxl_teacher, tmp_path):
    import json
    import shutil

    from edgekd.diffusion.encode import encode_prompts
    from edgekd.diffusion.load import load_teacher

    root = tmp_path / "teacher"
    shutil.copytree(tiny_sdxl_teacher, root)
    index = json.loads((root / "model_index.json").read_text())
    (root / "model_index.json").write_text(
        json.dumps({**index, "force_zeros_for_empty_prompt": False})
    )
    zeros = encode_prompts(load_teacher(tiny_sdxl_teacher), ["", "apple"])
    encoded = encode_prompts(load_teacher(root), ["", "apple"])
    assert zeros.encoder_hidden_states[0].abs().max() == 0
    assert encoded.encoder_hidden_states[0].abs().max() > 0
    assert zeros.encoder_hidden_states[1].equal(encoded.encoder_hidden_states[1])


def _starter_image() -> Any:
    """The starter's first image on white, [1, 3, 64, 64] in [-1, 1]."""
    import io

    import numpy as np
    import pyarrow.parquet as pq
    import torch
    from PIL import Image

    from edgekd import resources

    table = pq.read_table(resources.STARTER / "emoji-64.parquet", columns=["image"])
    drawing = Image.open(io.BytesIO(table["image"][0]["bytes"].as_py())).convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", drawing.size, "white"), drawing).convert("RGB")
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32))
    return pixels.permute(2, 0, 1)[None] / 127.5 - 1


def test_latents_decode_to_the_image_they_came_from(starter_teacher):
    """Encode, scale, and decode as the pipeline does: the starter VAE gives the image back."""
    import torch

    from edgekd.diffusion.encode import encode_images, sample_latents
    from edgekd.diffusion.load import load_teacher

    teacher = load_teacher(starter_teacher)
    image = _starter_image()
    mean, logvar = encode_images(teacher, image)
    assert mean.shape == logvar.shape == (1, 4, 16, 16)
    latents = sample_latents(mean, logvar, teacher.vae.config, torch.Generator().manual_seed(0))
    with torch.no_grad():
        decoded = teacher.vae.decode(latents / teacher.vae.config.scaling_factor).sample
    # The VAE is lossy: it misses by 0.03 here, by 0.12 with a scale that is half or double.
    assert (decoded - image).abs().mean() < 0.06


def test_sample_is_the_stock_posterior(tiny_teacher):
    import torch

    from edgekd.diffusion.encode import encode_images, sample_latents
    from edgekd.diffusion.load import load_teacher

    teacher = load_teacher(tiny_teacher)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3)) * 2 - 1
    with torch.no_grad():
        posterior = teacher.vae.encode(images).latent_dist
    expected = posterior.sample(generator=torch.Generator().manual_seed(4)) * 0.5
    mean, logvar = encode_images(teacher, images)
    drawn = sample_latents(mean, logvar, teacher.vae.config, torch.Generator().manual_seed(4))
    torch.testing.assert_close(drawn, expected)
    assert torch.equal(sample_latents(mean, logvar, teacher.vae.config, None), mean * 0.5)


def test_shift_and_per_channel_statistics():
    import torch

    from edgekd.diffusion.encode import sample_latents, unscale_latents

    mean = torch.full((1, 2, 1, 1), 3.0)
    logvar = torch.zeros_like(mean)
    shifted = sample_latents(mean, logvar, {"scaling_factor": 0.5, "shift_factor": 1.0}, None)
    assert shifted.flatten().tolist() == [1.0, 1.0]
    statistics = {
        "scaling_factor": 0.5,
        "shift_factor": None,
        "latents_mean": [1.0, 2.0],
        "latents_std": [2.0, 0.5],
    }
    assert sample_latents(mean, logvar, statistics, None).flatten().tolist() == [0.5, 1.0]
    for config in (
        {"scaling_factor": 0.5},
        {"scaling_factor": 0.5, "shift_factor": 1.0},
        statistics,
    ):
        scaled = sample_latents(mean, logvar, config, None)
        assert torch.equal(unscale_latents(scaled, config), mean)


def test_added_conditions_only_for_sdxl(tiny_teacher, tiny_sdxl_teacher):
    import torch

    from edgekd.diffusion.encode import added_conditions
    from edgekd.diffusion.validate import inspect_folder

    pooled, time_ids = torch.zeros(1, 32), torch.tensor([[32, 32, 0, 0, 32, 32]])
    assert added_conditions(inspect_folder(tiny_teacher), None, time_ids) is None
    added = added_conditions(inspect_folder(tiny_sdxl_teacher), pooled, time_ids)
    assert set(added) == {"text_embeds", "time_ids"}
    assert added["time_ids"].dtype == pooled.dtype
    with pytest.raises(ValueError, match="pooled"):
        added_conditions(inspect_folder(tiny_sdxl_teacher), None, time_ids)


def test_on_a_gpu_images_are_encoded_without_tf32():
    """The switch exists without a GPU; on a CPU it stays as it is, as threads encode there."""
    import torch

    from edgekd.diffusion.encode import _whole_float32

    seen = []
    for name in ("cpu", "cuda"):
        with _whole_float32(torch.device(name)):
            seen.append(torch.backends.cudnn.allow_tf32)
    assert seen == [True, False]
    assert torch.backends.cudnn.allow_tf32
