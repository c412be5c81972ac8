from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekd.errors import InputError


def inspect(path: Path) -> Any:
    from edgekd.diffusion.validate import inspect_folder

    return inspect_folder(path)


def edit_json(path: Path, **changes: Any) -> None:
    """Change a JSON file; `...` removes a key."""
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in values.items() if value is not ...}))


def edit_tensors(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    from safetensors.torch import load_file, save_file

    tensors = change({name: tensor.clone() for name, tensor in load_file(path).items()})
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"


def test_facts_of_each_family(
    tiny_teacher: Path, tiny_sd2_teacher: Path, tiny_sdxl_teacher: Path, starter_teacher: Path
) -> None:
    sd1, sd2, sdxl, starter = map(
        inspect, (tiny_teacher, tiny_sd2_teacher, tiny_sdxl_teacher, starter_teacher)
    )
    assert [info.family for info in (sd1, sd2, sdxl, starter)] == ["sd1", "sd2", "sdxl", "sd1"]
    assert (sd1.prediction_type, sd2.prediction_type) == ("epsilon", "v_prediction")
    assert (sd1.resolution, sd1.latent_size, sd1.vae_scale_factor) == (32, 8, 4)
    assert (starter.resolution, starter.latent_size, starter.latent_channels) == (64, 16, 4)
    assert (sd1.cross_attention_dim, sdxl.cross_attention_dim) == (32, 80)
    assert sd1.components == ("text_encoder", "unet", "vae", "tokenizer", "scheduler")
    assert "text_encoder_2" in sdxl.components
    assert (sd1.zero_empty_prompt, sdxl.zero_empty_prompt) == (False, True)
    assert len({info.key for info in (sd1, sd2, sdxl, starter)}) == 4


def test_key_is_of_loaded_content(tiny_teacher: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_teacher, copy)
    key = inspect(tiny_teacher).key
    (copy / "README.md").write_text("notes")
    (copy / "unet" / "training.log").write_text("notes")
    assert inspect(copy).key == key

    def nudge(tensors: dict[str, Any]) -> dict[str, Any]:
        tensors["conv_in.bias"][0] += 1
        return tensors

    edit_tensors(copy / UNET, nudge)
    assert inspect(copy).key != key


def _remove_index(root: Path) -> None:
    (root / "model_index.json").unlink()


def _broken_index(root: Path) -> None:
    (root / "model_index.json").write_text("{")


def _unknown_pipeline(root: Path) -> None:
    edit_json(root / "model_index.json", _class_name="StableDiffusion3Pipeline")


def _custom_unet(root: Path) -> None:
    edit_json(root / "model_index.json", unet=["my_unet", "UNet2DConditionModel"])


def _null_text_encoder(root: Path) -> None:
    edit_json(root / "model_index.json", text_encoder=[None, None])


def _no_vae(root: Path) -> None:
    shutil.rmtree(root / "vae")


def _no_unet_config(root: Path) -> None:
    (root / "unet" / "config.json").unlink()


def _pickle(root: Path) -> None:
    (root / UNET).rename(root / "unet" / "diffusion_pytorch_model.bin")


def _no_weights(root: Path) -> None:
    (root / VAE).unlink()


def _truncated(root: Path) -> None:
    data = (root / UNET).read_bytes()
    (root / UNET).write_bytes(data[: len(data) // 2])


def _empty_file(root: Path) -> None:
    (root / UNET).write_bytes(b"")


def _lfs_pointer(root: Path) -> None:
    (root / VAE).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def _missing_shard(root: Path) -> None:
    (root / UNET).unlink()
    index = {"weight_map": {"conv_in.weight": "diffusion_pytorch_model-00001-of-00002.safetensors"}}
    (root / f"{UNET}.index.json").write_text(json.dumps(index))


def _shard_outside(root: Path) -> None:
    (root / UNET).rename(root / "weights.safetensors")
    index = {"weight_map": {"conv_in.weight": "../weights.safetensors"}}
    (root / f"{UNET}.index.json").write_text(json.dumps(index))


def _other_text_encoder(root: Path) -> None:
    edit_json(root / "text_encoder" / "config.json", hidden_size=48)


def _bert(root: Path) -> None:
    edit_json(root / "text_encoder" / "config.json", model_type="bert")


def _inpainting(root: Path) -> None:
    edit_json(root / "unet" / "config.json", in_channels=9)


def _latent_channels(root: Path) -> None:
    edit_json(root / "vae" / "config.json", latent_channels=8)


def _learned_variance(root: Path) -> None:
    edit_json(root / "unet" / "config.json", out_channels=8)


def _class_conditional(root: Path) -> None:
    edit_json(root / "unet" / "config.json", num_class_embeds=10)


def _unknown_block(root: Path) -> None:
    edit_json(root / "unet" / "config.json", down_block_types=["MyBlock2D"] * 4)


def _oblong(root: Path) -> None:
    edit_json(root / "unet" / "config.json", sample_size=[8, 16])


def _shifted_vae(root: Path) -> None:
    edit_json(root / "vae" / "config.json", shift_factor=0.1)


def _missing_tensor(root: Path) -> None:
    edit_tensors(root / UNET, lambda t: {k: v for k, v in t.items() if k != "conv_out.bias"})


def _unexpected_tensor(root: Path) -> None:
    edit_tensors(root / UNET, lambda t: {**t, "lora.weight": t["conv_out.bias"].clone()})


def _wrong_shape(root: Path) -> None:
    edit_tensors(root / UNET, lambda t: {**t, "conv_out.bias": t["conv_out.bias"][:2]})


def _quantized(root: Path) -> None:
    edit_tensors(root / UNET, lambda t: {**t, "conv_out.bias": t["conv_out.bias"].char()})


def _no_tokenizer_files(root: Path) -> None:
    for name in ("vocab.json", "tokenizer.json"):
        (root / "tokenizer" / name).unlink(missing_ok=True)


def _broken_tokenizer(root: Path) -> None:
    for name in ("vocab.json", "tokenizer.json"):
        (root / "tokenizer" / name).unlink(missing_ok=True)
    (root / "tokenizer" / "tokenizer.json").write_text("{}")


def _foreign_tokenizer(root: Path) -> None:
    path = root / "tokenizer" / "vocab.json"
    vocab = json.loads(path.read_text())
    edit_json(path, **{f"word{i}</w>": len(vocab) + i for i in range(10)})


def _long_tokenizer(root: Path) -> None:
    edit_json(root / "tokenizer" / "tokenizer_config.json", model_max_length=77)


def _no_scheduler(root: Path) -> None:
    (root / "scheduler" / "scheduler_config.json").unlink()


def _unknown_scheduler(root: Path) -> None:
    edit_json(root / "scheduler" / "scheduler_config.json", _class_name="MyScheduler")


def _flow_matching(root: Path) -> None:
    edit_json(
        root / "scheduler" / "scheduler_config.json", _class_name="FlowMatchEulerDiscreteScheduler"
    )


def _sample_prediction(root: Path) -> None:
    edit_json(root / "scheduler" / "scheduler_config.json", prediction_type="sample")


def _in(file: str, **changes: Any) -> Callable[[Path], None]:
    return lambda root: edit_json(root / file, **changes)


def _scheduler(**changes: Any) -> Callable[[Path], None]:
    return _in("scheduler/scheduler_config.json", **changes)


def _deep(root: Path) -> None:
    (root / "unet" / "config.json").write_text("[" * 100_000)


def _fifo(root: Path) -> None:
    path = root / "vae" / "config.json"
    path.unlink()
    os.mkfifo(path)


def _endless_shards(root: Path) -> None:
    (root / UNET).unlink()
    (root / f"{UNET}.index.json").symlink_to("/dev/zero")


def _whole_words(root: Path) -> None:
    from edgekd.libraries import transformers

    path = root / "tokenizer"
    tokenizer = transformers.CLIPTokenizer.from_pretrained(str(path), local_files_only=True)
    tokenizer.add_tokens([transformers.AddedToken("<x>", single_word=True)])
    tokenizer.save_pretrained(path)
    edit_json(root / "text_encoder" / "config.json", vocab_size=len(tokenizer))


LAYERS = [
    ("unet", "layers_per_block", 10**6),
    ("unet", "transformer_layers_per_block", [10**6, 1, 1, 1]),
    ("unet", "block_out_channels", [32] * 5000),
    ("vae", "layers_per_block", 10**12),
    ("text_encoder", "num_hidden_layers", 10**6),
    ("text_encoder", "num_labels", 10**8),
]
ODD_SCHEDULES: list[tuple[dict[str, Any], str]] = [
    ({"num_train_timesteps": 1}, "`2 <= num_train_timesteps"),
    ({"num_train_timesteps": 10**12}, "`2 <= num_train_timesteps"),
    ({"num_train_timesteps": "1000"}, "but got '1000'"),
    ({"beta_start": float("nan")}, "`alphas_cumprod` of the DDIMScheduler"),
    ({"beta_end": float("inf")}, "`alphas_cumprod` of the DDIMScheduler"),
    ({"beta_end": 1.5}, "`alphas_cumprod` of the DDIMScheduler"),
    ({"beta_start": -0.001, "beta_schedule": "linear"}, "`alphas_cumprod` of the DDIMScheduler"),
    ({"beta_start": 0.0, "beta_end": 0.0}, "must fall, from 1 at most"),
    ({"beta_start": "a little"}, "must describe a DDIMScheduler"),
    ({"trained_betas": [0.1, 2.0, 0.1]}, "`alphas_cumprod` of the DDIMScheduler"),
    ({"beta_schedule": "cubic"}, "must describe a DDIMScheduler"),
    ({"timestep_spacing": "even"}, "the DDIMScheduler in"),
    ({"steps_offset": "one"}, "must draw in 10 steps"),
    ({"rescale_betas_zero_snr": True}, "must keep a signal at its last level"),
]
BAD = [
    (_remove_index, "with `model_index.json`"),
    (_broken_index, "must be JSON"),
    (_unknown_pipeline, "'StableDiffusion3Pipeline'"),
    (_custom_unet, "UNet2DConditionModel of my_unet. edgekd runs no code"),
    (_null_text_encoder, "must name the class of `text_encoder`"),
    (_no_vae, "must have a `vae` folder"),
    (_no_unet_config, "must have `unet/config.json`"),
    (_pickle, "pickles are never loaded, but got diffusion_pytorch_model.bin"),
    (_no_weights, "must hold `diffusion_pytorch_model.safetensors`"),
    (_truncated, "must be a whole safetensors file"),
    (_empty_file, "but got 0 bytes"),
    (_lfs_pointer, "git lfs pull"),
    (_missing_shard, "diffusion_pytorch_model-00001-of-00002.safetensors missing"),
    (_shard_outside, "must name files beside it"),
    (_other_text_encoder, "cross_attention_dim=32, hidden_size=48"),
    (_bert, "must describe a clip_text_model, but got 'bert'"),
    (_inpainting, "in_channels=9, latent_channels=4 (an inpainting U-Net)"),
    (_latent_channels, "in_channels=4, latent_channels=8"),
    (_learned_variance, "out_channels=8, in_channels=4"),
    (_class_conditional, "`num_class_embeds` of the U-Net must be null"),
    (_unknown_block, "MyBlock2D"),
    (_oblong, "one side of a square, but got [8, 16]"),
    (_shifted_vae, "`shift_factor` of the VAE must be null"),
    (_missing_tensor, "1 missing (such as `conv_out.bias`)"),
    (_unexpected_tensor, "1 unexpected (such as `lora.weight`)"),
    (_wrong_shape, "must have shape [4] by its config, but got [2]"),
    (_quantized, "`conv_out.bias` is I8"),
    (_no_tokenizer_files, "must hold `vocab.json` and `merges.txt`, or `tokenizer.json`"),
    (_broken_tokenizer, "must hold a CLIP tokenizer"),
    (_foreign_tokenizer, "largest id 4523, vocab_size=4514"),
    (_long_tokenizer, "but got 77 and 24"),
    (_no_scheduler, "must have `scheduler/scheduler_config.json`"),
    (_unknown_scheduler, "_class_name=MyScheduler"),
    (_flow_matching, "but got FlowMatchEulerDiscreteScheduler"),
    (_sample_prediction, "must be epsilon or v_prediction, but got 'sample'"),
    (_deep, "must be JSON"),
    (_fifo, "must have `vae/config.json`"),
    (_endless_shards, "must hold `diffusion_pytorch_model.safetensors`"),
    (_in("model_index.json", **{"../x": ["diffusers", "AutoencoderKL"]}), "plain names of folders"),
    (_in("model_index.json", **{"/etc": [None, None]}), "plain names of folders"),
    (_in("model_index.json", scheduler=["diffusers", "PNDMScheduler"]), "name the same class"),
    (_in("vae/config.json", scaling_factor=True), "`scaling_factor > 0` must hold"),
    (_in("unet/config.json", dual_cross_attention=True), "the unet must run as its config"),
    (_in("unet/config.json", sample_size=10**6), "must be up to 4096"),
    (_in("unet/config.json", sample_size=[[8], [8]]), "one side of a square"),
    (_whole_words, "must not be `single_word`, exports cannot obey it, but got '<x>'"),
    *((_scheduler(**changes), said) for changes, said in ODD_SCHEDULES),
    *((_in(f"{part}/config.json", **{key: value}), "must ") for part, key, value in LAYERS),
]


@pytest.mark.parametrize(
    ("spoil", "message"), BAD, ids=[f"{i}{case[0].__name__}" for i, case in enumerate(BAD)]
)
def test_bad_teacher_is_one_clear_line(
    spoil: Callable[[Path], None], message: str, tiny_teacher: Path, tmp_path: Path
) -> None:
    root = tmp_path / "teacher"
    shutil.copytree(tiny_teacher, root)
    spoil(root)
    with pytest.raises(InputError) as caught:
        inspect(root)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


SDXL_BAD = [
    ("unet/config.json", {"addition_embed_type": None}, "`addition_embed_type`"),
    ("unet/config.json", {"projection_class_embeddings_input_dim": 72}, "= 80, but got 72"),
    ("text_encoder_2/config.json", {"eos_token_id": 7}, "but got 7 and 4513"),
    ("tokenizer_2/tokenizer_config.json", {"model_max_length": 16}, "same `model_max_length`"),
    ("vae/config.json", {"latents_mean": [0.0] * 3, "latents_std": [1.0] * 3}, "one number for"),
    ("vae/config.json", {"scaling_factor": "0.13"}, "but got '0.13'"),
    ("unet/config.json", {"addition_time_embed_dim": "8"}, "must be an integer"),
    ("vae/config.json", {"scaling_factor": ...}, "must have `scaling_factor`"),
]


@pytest.mark.parametrize(("file", "change", "message"), SDXL_BAD)
def test_bad_sdxl_teacher(
    file: str, change: dict[str, Any], message: str, tiny_sdxl_teacher: Path, tmp_path: Path
) -> None:
    root = tmp_path / "teacher"
    shutil.copytree(tiny_sdxl_teacher, root)
    edit_json(root / file, **change)
    with pytest.raises(InputError) as caught:
        inspect(root)
    assert message in str(caught.value)


def test_a_latent_consistency_student_can_be_exported_but_not_distilled(
    tiny_lcm_student: Path, tiny_teacher: Path, tmp_path: Path
) -> None:
    from edgekd.diffusion.load import load_pipeline
    from edgekd.diffusion.validate import inspect_teacher

    info = inspect(tiny_lcm_student)
    assert (info.tiny_vae, info.guidance_conditioned) == (True, True)
    assert (info.resolution, info.vae_scale_factor) == (32, 4)
    assert type(load_pipeline(tiny_lcm_student)).__name__ == "LatentConsistencyModelPipeline"
    with pytest.raises(InputError, match="must be an AutoencoderKL"):
        inspect_teacher(tiny_lcm_student)
    plain = inspect_teacher(tiny_teacher)
    assert (plain.tiny_vae, plain.guidance_conditioned) == (False, False)
    mixed = tmp_path / "mixed"
    shutil.copytree(tiny_lcm_student, mixed)
    shutil.rmtree(mixed / "vae")
    shutil.copytree(tiny_teacher / "vae", mixed / "vae")
    edit_json(mixed / "model_index.json", vae=["diffusers", "AutoencoderKL"])
    with pytest.raises(InputError, match="with and without the prompt"):
        inspect_teacher(mixed)


LCM_BAD = [
    ("unet/config.json", {"time_cond_proj_dim": None}, "`time_cond_proj_dim`"),
    ("scheduler/scheduler_config.json", {"_class_name": "DDIMScheduler"}, "must be LCMScheduler"),
    ("vae/config.json", {"_class_name": "AutoencoderKL"}, "must name the same class"),
    ("vae/config.json", {"upsampling_scaling_factor": 4}, "`upsampling_scaling_factor` 2"),
    ("vae/config.json", {"latent_channels": 8}, "must equal `latent_channels`"),
]


@pytest.mark.parametrize(("file", "change", "message"), LCM_BAD)
def test_bad_latent_consistency_student(
    file: str, change: dict[str, Any], message: str, tiny_lcm_student: Path, tmp_path: Path
) -> None:
    root = tmp_path / "student"
    shutil.copytree(tiny_lcm_student, root)
    edit_json(root / file, **change)
    with pytest.raises(InputError) as caught:
        inspect(root)
    assert message in str(caught.value)


@pytest.mark.parametrize("only", [(), ("unet",), ("vae", "text_encoder")])
def test_models_that_are_not_asked_for_take_no_memory(
    only: tuple[str, ...], tiny_teacher: Path
) -> None:
    from edgekd.diffusion.load import load_pipeline

    pipeline = load_pipeline(tiny_teacher, only=only)
    for name in ("unet", "vae", "text_encoder"):
        assert getattr(pipeline, name).device.type == ("cpu" if name in only else "meta")
