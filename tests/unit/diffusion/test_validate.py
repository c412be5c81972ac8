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


def test_facts_of_each_family(tiny_teacher, tiny_sd2_teacher, tiny_sdxl_teacher, starter_teacher):
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


def test_key_is_of_loaded_content(tiny_teacher, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_teacher, copy)
    key = inspect(tiny_teacher).key
    (copy / "README.md").write_text("notes")
    (copy / "unet" / "training.log").write_text("notes")
    assert inspect(copy).key == key

    def nudge(tensors):
        tensors["conv_in.bias"][0] += 1
        return tensors

    edit_tensors(copy / UNET, nudge)
    assert inspect(copy).key != key


Spoil = Callable[[Path], object]


def _in(file: str, **changes: Any) -> Spoil:
    return lambda root: edit_json(root / file, **changes)


def _scheduler(**changes: Any) -> Spoil:
    return _in("scheduler/scheduler_config.json", **changes)


def _without(*names: str) -> Spoil:
    def remove(root: Path) -> None:
        for path in (root / name for name in names):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    return remove


def _with(name: str, content: str | Callable[[bytes], bytes], *absent: str) -> Spoil:
    """Another content of a file, or what becomes of its own; some files go."""

    def write(root: Path) -> None:
        _without(*absent)(root)
        data = content.encode() if isinstance(content, str) else content((root / name).read_bytes())
        (root / name).write_bytes(data)

    return write


def _weights(**changes: Callable[[Any], Any]) -> Spoil:
    """Tensors of the U-Net made of its `conv_out.bias`; one that is made None goes."""

    def change(tensors: dict[str, Any]) -> dict[str, Any]:
        made = {k.replace("__", "."): f(tensors["conv_out.bias"]) for k, f in changes.items()}
        return {name: value for name, value in {**tensors, **made}.items() if value is not None}

    return lambda root: edit_tensors(root / UNET, change)


def _index(shard: str, to: str | None = None) -> Spoil:
    """Weights as shards; the whole file goes elsewhere."""

    def split(root: Path) -> None:
        (root / UNET).rename(root / (to or "unet/moved"))
        index = {"weight_map": {"conv_in.weight": shard}}
        (root / f"{UNET}.index.json").write_text(json.dumps(index))

    return split


def _fifo(root: Path) -> None:
    _without("vae/config.json")(root)
    os.mkfifo(root / "vae" / "config.json")


def _endless_shards(root: Path) -> None:
    _without(UNET)(root)
    (root / f"{UNET}.index.json").symlink_to("/dev/zero")


def _foreign_tokenizer(root: Path) -> None:
    path = root / "tokenizer" / "vocab.json"
    size = len(json.loads(path.read_text()))
    edit_json(path, **{f"word{i}</w>": size + i for i in range(10)})


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
    ({"steps_offset": "one"}, "must draw finite latents in 10 steps"),
    ({"rescale_betas_zero_snr": True}, "must keep a signal at its last level"),
]
NO_TOKENIZER = ("tokenizer/vocab.json", "tokenizer/tokenizer.json")
SHARD = "diffusion_pytorch_model-00001-of-00002.safetensors"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
BAD: list[tuple[Spoil, str]] = [
    (_without("model_index.json"), "with `model_index.json`"),
    (_with("model_index.json", "{"), "must be JSON"),
    (_in("model_index.json", _class_name="StableDiffusion3Pipeline"), "'StableDiffusion3Pipeline'"),
    (
        _in("model_index.json", unet=["my_unet", "UNet2DConditionModel"]),
        "UNet2DConditionModel of my_unet. edgekd runs no code",
    ),
    (_in("model_index.json", text_encoder=[None, None]), "must name the class of `text_encoder`"),
    (_without("vae"), "must have a `vae` folder"),
    (_without("tokenizer"), "tokenizer"),
    (_without("scheduler"), "scheduler"),
    (_without("unet/config.json"), "must have `unet/config.json`"),
    (
        lambda root: (root / UNET).rename(root / "unet" / "diffusion_pytorch_model.bin"),
        "pickles are never loaded, but got diffusion_pytorch_model.bin",
    ),
    (_without(VAE), "must hold `diffusion_pytorch_model.safetensors`"),
    (_with(UNET, lambda data: data[: len(data) // 2]), "must be a whole safetensors file"),
    (_with(UNET, ""), "but got 0 bytes"),
    (_with(VAE, POINTER), "git lfs pull"),
    (_index(SHARD), f"{SHARD} missing"),
    (_index("../weights.safetensors", "weights.safetensors"), "must name files beside it"),
    (_in("text_encoder/config.json", hidden_size=48), "cross_attention_dim=32, hidden_size=48"),
    (_in("text_encoder/config.json", model_type="bert"), "a clip_text_model, but got 'bert'"),
    (
        _in("unet/config.json", in_channels=9),
        "in_channels=9, latent_channels=4 (an inpainting U-Net)",
    ),
    (_in("vae/config.json", latent_channels=8), "in_channels=4, latent_channels=8"),
    (_in("unet/config.json", out_channels=8), "out_channels=8, in_channels=4"),
    (_in("unet/config.json", num_class_embeds=10), "`num_class_embeds` of the U-Net must be null"),
    (_in("unet/config.json", down_block_types=["MyBlock2D"] * 4), "MyBlock2D"),
    (_in("unet/config.json", sample_size=[8, 16]), "one side of a square, but got [8, 16]"),
    (_in("vae/config.json", shift_factor=0.1), "`shift_factor` of the VAE must be null"),
    (_weights(conv_out__bias=lambda _: None), "1 missing (such as `conv_out.bias`)"),
    (_weights(lora__weight=lambda bias: bias.clone()), "1 unexpected (such as `lora.weight`)"),
    (
        _weights(conv_out__bias=lambda bias: bias[:2]),
        "must have shape [4] by its config, but got [2]",
    ),
    (_weights(conv_out__bias=lambda bias: bias.char()), "`conv_out.bias` is I8"),
    (_without(*NO_TOKENIZER), "must hold `vocab.json` and `merges.txt`, or `tokenizer.json`"),
    (_with("tokenizer/tokenizer.json", "{}", *NO_TOKENIZER), "must hold a CLIP tokenizer"),
    (_foreign_tokenizer, "largest id 4523, vocab_size=4514"),
    (_in("tokenizer/tokenizer_config.json", model_max_length=77), "but got 77 and 24"),
    (_without("scheduler/scheduler_config.json"), "must have `scheduler/scheduler_config.json`"),
    (_scheduler(_class_name="MyScheduler"), "_class_name=MyScheduler"),
    (
        _scheduler(_class_name="FlowMatchEulerDiscreteScheduler"),
        "but got FlowMatchEulerDiscreteScheduler",
    ),
    (_scheduler(prediction_type="sample"), "epsilon or v_prediction, but got 'sample'"),
    (_with("unet/config.json", "[" * 100_000), "must be JSON"),
    (_fifo, "must have `vae/config.json`"),
    (_endless_shards, "must hold `diffusion_pytorch_model.safetensors`"),
    (_in("model_index.json", **{"../x": ["diffusers", "AutoencoderKL"]}), "plain names of folders"),
    (_in("model_index.json", **{"/etc": [None, None]}), "plain names of folders"),
    (_in("model_index.json", scheduler=["diffusers", "PNDMScheduler"]), "name the same class"),
    (_in("vae/config.json", scaling_factor=True), "`scaling_factor > 0` must hold"),
    (_in("unet/config.json", _diffusers_version=1e300), "must be a version, but got 1e+300"),
    (_in("vae/config.json", _diffusers_version="new"), "must be a version, but got 'new'"),
    (_in("unet/config.json", norm_eps=float("nan")), "`norm_eps` in "),
    (_in("unet/config.json", dual_cross_attention=True), "the unet must run as its config"),
    (_in("unet/config.json", sample_size=10**6), "must be up to 4096"),
    (_in("unet/config.json", sample_size=[[8], [8]]), "one side of a square"),
    (_whole_words, "must not be `single_word`, exports cannot obey it, but got '<x>'"),
    *((_scheduler(**changes), said) for changes, said in ODD_SCHEDULES),
    *((_in(f"{part}/config.json", **{key: value}), "must ") for part, key, value in LAYERS),
]


def refused(root: Path) -> str:
    with pytest.raises(InputError) as caught:
        inspect(root)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    return str(caught.value)


@pytest.mark.parametrize(("spoil", "message"), BAD)
def test_bad_teacher_is_one_clear_line(spoil, message, tiny_teacher, tmp_path):
    root = tmp_path / "teacher"
    shutil.copytree(tiny_teacher, root)
    spoil(root)
    assert message in refused(root)


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


def test_a_latent_consistency_student_can_be_exported_but_not_distilled(
    tiny_lcm_student, tiny_teacher, tmp_path
):
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


@pytest.mark.parametrize(
    ("fixture", "file", "change", "message"),
    [
        *(("tiny_sdxl_teacher", *case) for case in SDXL_BAD),
        *(("tiny_lcm_student", *case) for case in LCM_BAD),
    ],
)
def test_bad_folder_of_another_family(fixture, file, change, message, request, tmp_path):
    root = tmp_path / "folder"
    shutil.copytree(request.getfixturevalue(fixture), root)
    edit_json(root / file, **change)
    assert message in refused(root)


@pytest.mark.parametrize("only", [(), ("unet",), ("vae", "text_encoder")])
def test_models_that_are_not_asked_for_take_no_memory(only, tiny_teacher):
    from edgekd.diffusion.load import load_pipeline

    pipeline = load_pipeline(tiny_teacher, only=only)
    for name in ("unet", "vae", "text_encoder"):
        assert getattr(pipeline, name).device.type == ("cpu" if name in only else "meta")
