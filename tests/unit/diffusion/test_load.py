import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekd.errors import InputError

FAMILIES = ["tiny_teacher", "tiny_sd2_teacher", "tiny_sdxl_teacher", "starter_teacher"]
COMPONENTS = ("text_encoder", "text_encoder_2", "unet", "vae")
UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
Tensors = dict[str, Any]


def edit_tensors(path: Path, change: Callable[[Tensors], Tensors], to: Path | None = None) -> None:
    from safetensors.torch import load_file, save_file

    tensors = change({name: tensor.clone() for name, tensor in load_file(path).items()})
    path.unlink()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, to or path)


def weights(teacher: Any) -> dict[str, Tensors]:
    models = {"unet": teacher.unet, "vae": teacher.vae, "text_encoder": teacher.text_encoders[0]}
    return {name: model.state_dict() for name, model in models.items()}


@pytest.fixture(scope="module")
def original(tiny_teacher) -> Any:
    from edgekd.diffusion.load import load_teacher

    return load_teacher(tiny_teacher)


def same(first: dict[str, Tensors], second: dict[str, Tensors]) -> bool:
    assert first.keys() == second.keys()
    return all(
        first[name].keys() == second[name].keys()
        and all(tensor.equal(second[name][key]) for key, tensor in first[name].items())
        for name in first
    )


@pytest.mark.parametrize("fixture", FAMILIES)
def test_pipeline_equals_diffusers(fixture, request):
    """Every weight, and the image from the same noise, as loaded by diffusers itself."""
    import torch

    from edgekd.diffusion.load import load_pipeline
    from edgekd.libraries import diffusers

    path = request.getfixturevalue(fixture)
    stock = diffusers.DiffusionPipeline.from_pretrained(
        path, local_files_only=True, torch_dtype=torch.float32
    )
    stock.set_progress_bar_config(disable=True)
    ours = load_pipeline(path)
    assert type(ours) is type(stock)
    assert ours.scheduler.config == stock.scheduler.config
    for name in set(COMPONENTS) & set(stock.components):
        theirs = getattr(stock, name).state_dict()
        assert same({name: getattr(ours, name).state_dict()}, {name: theirs})
    images = [
        pipeline(
            "a red apple",
            num_inference_steps=2,
            generator=torch.Generator().manual_seed(0),
            output_type="pt",
        ).images
        for pipeline in (stock, ours)
    ]
    assert images[0].std() > 0
    # Files mapped by diffusers may be unaligned, which changes the order of sums in fp32.
    torch.testing.assert_close(images[1], images[0], atol=1e-4, rtol=0)


def test_teacher_is_frozen_and_converted(tiny_sdxl_teacher):
    import torch

    from edgekd.diffusion.load import load_teacher

    teacher = load_teacher(tiny_sdxl_teacher, dtype=torch.bfloat16)
    assert teacher.dtype == torch.bfloat16
    assert teacher.device == torch.device("cpu")
    for model in (teacher.unet, teacher.vae, *teacher.text_encoders):
        assert not model.training
        assert not any(p.requires_grad or p.is_meta for p in model.parameters())
        assert not any(buffer.is_meta for buffer in model.buffers())


def _strip_prefix(root: Path) -> None:
    edit_tensors(
        root / "text_encoder" / "model.safetensors",
        lambda t: {name.removeprefix("text_model."): tensor for name, tensor in t.items()},
    )


def _position_ids(root: Path) -> None:
    import torch

    edit_tensors(
        root / "text_encoder" / "model.safetensors",
        lambda t: {**t, "text_model.embeddings.position_ids": torch.arange(24)[None]},
    )


def _old_attention(root: Path) -> None:
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(tensors: Tensors) -> Tensors:
        names = dict.fromkeys(tensors, "")
        for name in tensors:
            names[name] = name
            for new, before in old.items():
                if f".attentions.0.{new}." in name:
                    names[name] = name.replace(new, before)
        assert sum("proj_attn" in name for name in names.values()) == 4
        return {names[name]: tensor for name, tensor in tensors.items()}

    edit_tensors(root / VAE, rename)


def _shards(root: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(root / UNET)
    weight_map = {
        name: f"diffusion_pytorch_model-0000{1 + i % 2}-of-00002.safetensors"
        for i, name in enumerate(tensors)
    }
    for file in set(weight_map.values()):
        part = {name: t.contiguous() for name, t in tensors.items() if weight_map[name] == file}
        save_file(part, root / "unet" / file)
    (root / UNET).unlink()
    (root / f"{UNET}.index.json").write_text(json.dumps({"weight_map": weight_map}))


def _variant(root: Path) -> None:
    for path in sorted(root.glob("*/*.safetensors")):
        path.rename(path.with_suffix(".fp16.safetensors"))


def _tokenizer_json_only(root: Path) -> None:
    """What transformers 5 writes."""
    from edgekd.libraries import transformers

    fast = transformers.CLIPTokenizerFast.from_pretrained(str(root / "tokenizer"))
    shutil.rmtree(root / "tokenizer")
    fast.save_pretrained(str(root / "tokenizer"))
    for file in (root / "tokenizer").iterdir():
        if file.name != "tokenizer.json":
            file.unlink()
    end = "<|endoftext|>"
    config = {
        "backend": "tokenizers",
        "bos_token": "<|startoftext|>",
        "eos_token": end,
        "is_local": True,
        "local_files_only": False,
        "model_max_length": 24,
        "pad_token": end,
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": end,
    }
    (root / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(config))


def _symlinks(root: Path) -> None:
    """The layout of a downloaded snapshot: names that link to blobs."""
    for i, path in enumerate(sorted(root.glob("*/*.safetensors"))):
        blob = root.parent / f"blob{i}"
        path.rename(blob)
        path.symlink_to(blob)


SPELLINGS = [
    _strip_prefix,
    _position_ids,
    _old_attention,
    _shards,
    _variant,
    _tokenizer_json_only,
    _symlinks,
]


@pytest.mark.parametrize("respell", SPELLINGS, ids=[f.__name__[1:] for f in SPELLINGS])
def test_other_spellings_load_the_same_teacher(respell, original, tiny_teacher, tmp_path):
    from edgekd.diffusion.encode import encode_prompts
    from edgekd.diffusion.load import load_teacher

    root = tmp_path / "teacher"
    shutil.copytree(tiny_teacher, root)
    respell(root)
    respelt = load_teacher(root)
    assert same(weights(respelt), weights(original))
    captions = ["a red apple", "Grinning cat!"]
    first, second = (encode_prompts(teacher, captions) for teacher in (original, respelt))
    assert first.encoder_hidden_states.equal(second.encoder_hidden_states)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_must_be_finite(value, tiny_teacher, tmp_path):
    from edgekd.diffusion.load import load_teacher

    root = tmp_path / "teacher"
    shutil.copytree(tiny_teacher, root)

    def spoil(tensors):
        tensors["mid_block.resnets.0.conv1.weight"][3, 1, 0, 0] = value
        return tensors

    edit_tensors(root / UNET, spoil)
    with pytest.raises(InputError, match=r"`mid_block\.resnets\.0\.conv1\.weight`"):
        load_teacher(root)


def test_loaded_weights_do_not_follow_the_file(tiny_teacher, tmp_path):
    """A mapped file that changes under a run would change the teacher."""
    from edgekd.diffusion.load import load_model

    root = tmp_path / "teacher"
    shutil.copytree(tiny_teacher, root)
    unet = load_model(root, "unet")
    before = unet.conv_in.weight.clone()
    size = (root / UNET).stat().st_size
    with open(root / UNET, "r+b") as stream:
        stream.write(b"\0" * size)
    assert unet.conv_in.weight.equal(before)
