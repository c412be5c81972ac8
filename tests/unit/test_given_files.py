"""Files that users bring, good, odd or bad: taken, or refused in one line that names what is wrong.

One table, no process, no weights of a model; settings have theirs in `test_given_settings.py`,
and whole folders of teachers, data sets and commands in `diffusion/test_validate.py`,
`data/test_bad_data.py` and `e2e/test_bad_input.py`.
"""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures.exported import describe
from fixtures.tried import Row, Try, check_one_line, rows
from PIL import Image
from safetensors.torch import save_file

from edgekd.data.prepare import prepare
from edgekd.diffusion.single_file.checkpoint import read_checkpoint
from edgekd.export.lora import Lora, check_loras
from edgekd.progress import Silent
from edgekd.recipe import DataSection
from edgekd.runtime.folder import read_folder
from edgekd.runtime.tokenizer import ClipTokenizer

NAN = float("nan")


def export_file(change: tuple[str, Any]) -> Try:
    """A file of an exported folder with another content, or with other values in it."""
    name, content = change

    def tried(tmp: Path) -> None:
        folder = describe(tmp / "export")
        path = folder / name
        if isinstance(content, dict):
            values = json.loads(path.read_text(encoding="utf-8"))
            text = json.dumps({**values, **content})
        else:
            text = content
        path.unlink()
        if text is not None:
            path.write_text(text, encoding="utf-8")
        read_folder(folder)

    return tried


MANIFEST, DECODER = "manifest.json", "vae_decoder/config.json"
EXPORTS: list[Row] = [
    ((MANIFEST, {}), None),
    ((MANIFEST, {"other": [1]}), None),
    ((MANIFEST, None), "manifest.json"),
    ((MANIFEST, ""), "manifest.json"),
    ((MANIFEST, "[]"), "manifest.json"),
    ((MANIFEST, "null"), "manifest.json"),
    ((MANIFEST, "[" * 10**5), "manifest.json"),
    ((MANIFEST, {"format": 2}), "a manifest of format 1"),
    ((MANIFEST, {"runtime": None}), "`runtime`"),
    ((MANIFEST, {"recommended": 3}), "`recommended`"),
    ((MANIFEST, {"recommended": {"steps": 0, "guidance_scale": 1}}), "steps"),
    ((MANIFEST, {"recommended": {"steps": 3}}), "`guidance_scale`"),
    ((MANIFEST, {"recommended": {"steps": 3, "guidance_scale": NAN}}), "guidance_scale"),
    ((MANIFEST, {"shapes": None}), "`shapes`"),
    ((MANIFEST, {"shapes": {"dynamic": 1, "native": [8, 8], "multiple": 8}}), "`dynamic`"),
    ((MANIFEST, {"shapes": {"dynamic": True, "native": [8], "multiple": 8}}), "`native`"),
    ((MANIFEST, {"shapes": {"dynamic": True, "native": [8, 8], "multiple": 0}}), "multiple"),
    (("model_index.json", {"_class_name": "FluxPipeline"}), "the pipeline must be one of"),
    (("model_index.json", {"_class_name": 3}), "`_class_name`"),
    (("unet/config.json", {"in_channels": 0}), "in_channels"),
    (("unet/config.json", {"in_channels": "4"}), "`in_channels`"),
    (("unet/config.json", {"time_cond_proj_dim": -3}), "time_cond_proj_dim"),
    ((DECODER, {"scaling_factor": 0}), "scaling_factor"),
    ((DECODER, {"scaling_factor": None}), "`scaling_factor`"),
    ((DECODER, {"block_out_channels": []}), "`block_out_channels`"),
    ((DECODER, {"block_out_channels": [1] * 99}), "`block_out_channels`"),
    (("scheduler/scheduler_config.json", "{}"), "the scheduler must be one of"),
    (("scheduler/scheduler_config.json", None), "scheduler_config.json"),
]


def tokenizer(change: tuple[str, Any]) -> Try:
    """A file of a tokenizer's folder, as `export_file`."""

    def tried(tmp: Path) -> None:
        name, content = change
        folder = describe(tmp / "export") / "tokenizer"
        path = folder / name
        if isinstance(content, dict):
            old = json.loads(path.read_text(encoding="utf-8"))
            content = json.dumps({**old, **content})
        path.unlink()
        if content is not None:
            path.write_text(content, encoding="utf-8")
        size = json.loads((folder.parent / "text_encoder" / "config.json").read_text())
        ClipTokenizer(folder, size["vocab_size"])(["a cat"])

    return tried


SETTINGS = "tokenizer_config.json"
TOKENIZERS: list[Row] = [
    ((SETTINGS, {}), None),
    ((SETTINGS, {"model_max_length": 0}), "model_max_length"),
    ((SETTINGS, {"model_max_length": 1e30}), "model_max_length"),
    ((SETTINGS, {"model_max_length": "77"}), "model_max_length"),
    ((SETTINGS, {"pad_token": "no such token"}), "no such token"),
    ((SETTINGS, {"eos_token": 3}), "eos_token"),
    ((SETTINGS, "[]"), SETTINGS),
    ((SETTINGS, None), SETTINGS),
    (("vocab.json", "{}"), "vocab"),
    (("vocab.json", "[]"), "vocab"),
    (("vocab.json", '{"a": -1}'), "must hold for the tokens of"),
    (("vocab.json", {"a": "b"}), "vocab"),
    (("vocab.json", None), "vocab"),
    (("merges.txt", None), "merges"),
    (("merges.txt", "#version\na b c d\n"), "merges"),
    (("merges.txt", "#version\nq! zz!\n"), "merges"),
]


def file_of(tmp: Path, names: Any) -> Path:
    save_file({name: torch.ones(2, 4, 1, 1) for name in names}, tmp / "a.safetensors")
    return tmp / "a.safetensors"


def lora(names: Any) -> Try:
    return lambda tmp: check_loras([Lora(file_of(tmp, names))])


QUERY, K = "unet.down_blocks.0.to_q", "lora_unet_down_blocks_0_to_q"
HADA = tuple(f"{K}.hada_w{i}_{half}" for i in (1, 2) for half in "ab")
LORAS: list[Row] = [
    ((f"{QUERY}.lora_A.weight", f"{QUERY}.lora_B.weight"), None),
    ((f"{QUERY}.lora.up.weight", f"{QUERY}.lora.down.weight"), None),
    ((f"{K}.lora_up.weight", f"{K}.lora_down.weight", f"{K}.alpha"), None),
    ((f"{K}.lora_up.weight", f"{K}.lora_down.weight", f"{K}.dora_scale"), None),
    (HADA, None),
    ((*HADA, f"{K}.alpha"), None),
    ((f"{K}.lokr_w1", f"{K}.lokr_w2_a", f"{K}.lokr_w2_b"), None),
    ((), "must hold LoRA tensors"),
    (("unet.conv_in.weight",), "must hold LoRA tensors"),
    ((f"{QUERY}.lora_A.weight",), "must have two factors"),
    ((f"{QUERY}.lora_A.weight", f"{QUERY}.lora_B.weight", "x.oft_diag"), "x.oft_diag"),
    ((f"{QUERY}.lora_A.weight", f"{QUERY}.lora_B.weight", "x.diff"), "full differences"),
    ((f"{QUERY}.lora_A.weight", f"{QUERY}.lora_B.weight", f"{QUERY}.alpha"), "alpha"),
    ((f"{K}.lora_up.weight", f"{K}.lora_down.weight", f"{K}.lora_mid.weight"), "middle factor"),
    (HADA[:3], "the tensors of a LoRA, a LoHa or a LoKr"),
    ((*HADA, f"{K}.hada_t1"), "hada_t1"),
    ((*HADA, "emb_params"), "named as kohya's, but got emb_params"),
    ((f"{K}.lokr_w1", f"{K}.lokr_t2", f"{K}.lokr_w2_a", f"{K}.lokr_w2_b"), "lokr_t2"),
    ((f"{K}.lokr_w1",), "lokr_w1 of"),
    (("x.hada_w1_a", "x.hada_w1_b"), "must hold LoRA tensors"),
]


def checkpoint(names: Any) -> Try:
    return lambda tmp: read_checkpoint(file_of(tmp, names))


FIRST = "model.diffusion_model.input_blocks.0.0.weight"
SD1 = (FIRST, "cond_stage_model.transformer.text_model.x")
CHECKPOINTS: list[Row] = [
    (SD1, None),
    ((FIRST, "cond_stage_model.model.x"), None),
    ((FIRST, "conditioner.embedders.0.transformer.x", "conditioner.embedders.1.model.x"), None),
    ((*SD1, "alphas_cumprod", "model_ema.decay"), None),
    ((*SD1, "something.unknown"), None),
    ((), "no tensor at all"),
    (("x",), "something else (`x`)"),
    ((FIRST,), "text encoders of none"),
    ((FIRST, "conditioner.embedders.0.model.x"), "the refiner"),
    ((*SD1, "control_model.x"), "a ControlNet"),
    ((*SD1, "lora_unet_x"), "a LoRA"),
    (("model.diffusion_model.joint_blocks.0.x",), "Stable Diffusion 3"),
    (("double_blocks.0.x",), "Flux"),
    ((*SD1, "edm_mean"), "Playground v2.5"),
    (("emb_params",), "a textual inversion"),
    (("first_stage_model.decoder.conv_in.weight",), "a VAE alone"),
    (("down_blocks.0.resnets.0.x",), "one component of a diffusers folder"),
    (("text_model.encoder.layers.0.x",), "a text encoder"),
]


def picture(
    mode: str = "RGB", size: tuple[int, int] = (48, 48), kind: str = "PNG", seed: int = 0
) -> bytes:
    stream, random = io.BytesIO(), np.random.default_rng(seed)
    image = Image.fromarray(random.integers(0, 255, (*size[::-1], 3), np.uint8)).convert(mode)
    image.save(stream, kind)
    return stream.getvalue()


def pictures(case: tuple[int, dict[str, Any]]) -> Try:
    """A folder with four good pictures and these files, prepared."""
    taken, files = case

    def tried(tmp: Path) -> None:
        (tmp / "set").mkdir()
        for name in "wxyz":
            (tmp / "set" / f"{name}.png").write_bytes(picture("L", seed=ord(name)))
            (tmp / "set" / f"{name}.txt").write_text(name)
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            (tmp / "set" / name).write_bytes(data)
        split = {"image_fraction": 0.5, "group_fraction": 0}
        section = {"sources": [str(tmp / "set")], "resolution": 32, "workers": 1, "split": split}
        found = prepare(DataSection.model_validate(section), tmp / "out", Silent())
        assert found.train + found.validation == 4 + taken

    return tried


CAPTION = {"a.txt": "a cat"}
# How many of the files become samples, and the files: what is no sample is left out and counted.
PICTURES: list[Row] = [
    ((1, {"a.png": picture(), **CAPTION}), None),
    ((1, {"a.jpg": picture(kind="JPEG"), "a.txt": "\ufeffa cat"}), None),
    ((1, {"a.webp": picture(kind="WEBP"), "a.txt": "a\r\ncat"}), None),
    ((1, {"a.png": picture("RGBA"), "a.txt": "猫 🐈"}), None),
    ((1, {"a.png": picture("P"), "a.caption": "a cat"}), None),
    ((1, {"a.png": picture("1"), "a.TXT": "a cat"}), None),
    ((1, {"a.PNG": picture("CMYK", kind="JPEG"), **CAPTION}), None),
    ((1, {"a.png": picture(), "a.txt": "a cat".encode("utf-16")}), None),
    ((1, {"a.png": picture("LA"), **CAPTION}), None),
    ((0, {"a.png": b"PNG", **CAPTION}), None),
    ((0, {"a.png": picture()[:200], **CAPTION}), None),
    ((0, {"a.png": b"", **CAPTION}), None),
    ((0, {"a.png": picture(size=(200, 20)), **CAPTION}), None),
    ((0, {"a.png": picture(size=(8, 8)), **CAPTION}), None),
    ((0, {"a.png": picture(), "a.txt": " "}), None),
    ((0, {"a.png": picture()}), None),
]

CASES = [
    *rows("export", export_file, EXPORTS),
    *rows("tokenizer", tokenizer, TOKENIZERS),
    *rows("LoRA", lora, LORAS),
    *rows("checkpoint", checkpoint, CHECKPOINTS),
    *rows("pictures", pictures, PICTURES),
]


@pytest.mark.parametrize(("attempt", "said"), CASES)
def test_it_is_taken_or_refused_in_one_line(attempt, said, tmp_path):
    check_one_line(attempt, said, tmp_path)
