"""The file of `--target sdcpp` in stable-diffusion.cpp's own loader, at the published sizes.

The files are sparse: names, types and shapes are those that the exporter writes, the weights are
holes. So every model of gigabytes costs a second. What the loader computes from real weights was
measured by hand: docs/export.md.
"""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from edgekd.diffusion.validate import Family
from edgekd.export.sdcpp import writer
from edgekd.export.sdcpp.expressible import check_unet
from edgekd.libraries import diffusers, transformers
from edgekd.student.arch import StageArch, StudentArch
from edgekd.student.config import to_unet_config
from edgekd.student.reference import ARCHITECTURES
from edgekd.student.resolve import preset

# Its wheels are for x86-64 and for macOS on arm64; building it takes a C++ toolchain.
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("cyllama") is None, reason="needs a wheel of cyllama"
)

NAMES = {"sd1": "sd15", "sd2": "sd21", "sdxl": "sdxl"}
# As published: the first and the last of a level's blocks, or none at the finest level.
_PLAIN = StageArch(down=(0,), up=(0, 2), down_transformers=((),), up_transformers=((), ()))
_VEGA = StudentArch(
    stages=tuple(
        StageArch(down_transformers=(kept,) * 2, up_transformers=(kept,) * 3)
        for kept in ((), (0,), (0, 9))
    ),
    mid_transformers=(),
)


@dataclass(frozen=True)
class Case:
    """A model: family, `edgekd`'s and stable-diffusion.cpp's name of its U-Net, arch of that."""

    family: Family
    known: str
    version: str
    arch: StudentArch | str = "full"
    tiny_vae: bool = False


def _sdxs() -> StudentArch:
    tiny = preset("bk-sdm-tiny", ARCHITECTURES["sd15"]["unet"])
    return StudentArch(stages=(_PLAIN, *tiny.stages[1:]), mid=False)


CASES = {
    "sd1": Case("sd1", "SD1", "SD 1.x"),
    "sd1-tiny": Case("sd1", "BK-SDM tiny", "SD 1.x Tiny UNet", "bk-sdm-tiny"),
    "sdxs": Case("sd1", "SDXS-512", "SDXS (512-DS)", _sdxs(), tiny_vae=True),
    "sd2": Case("sd2", "SD2", "SD 2.x"),
    "sdxl": Case("sdxl", "SDXL", "SDXL"),
    "ssd-1b": Case("sdxl", "SSD-1B", "SDXL (SSD1B)", "ssd-1b"),
    "vega": Case("sdxl", "Segmind Vega", "SDXL (Vega)", _VEGA),
}


def unet(case: Case) -> Any:
    config, arch = ARCHITECTURES[NAMES[case.family]]["unet"], case.arch
    config = to_unet_config(preset(arch, config) if isinstance(arch, str) else arch, config)
    assert check_unet(config, case.family) == case.known
    return diffusers.UNet2DConditionModel(**config)


@cache
def others(family: Family) -> dict[str, Any]:
    """The parts of a family that no student changes."""
    configs = ARCHITECTURES[NAMES[family]]
    found = {"vae": diffusers.AutoencoderKL(**configs["vae"])}
    for name in (name for name in configs if name.startswith("text_encoder")):
        second = name == "text_encoder_2"
        kind = "CLIPTextModelWithProjection" if second else "CLIPTextModel"
        config = transformers.CLIPTextConfig(**configs[name])
        found[name] = getattr(transformers, kind)(config)
    return found


def write_sparse(state: dict[str, Any], path: Path) -> None:
    """A safetensors file in fp16 whose weights are a hole."""
    header, end = {}, 0
    for name, tensor in state.items():
        begin, end = end, end + 2 * tensor.numel()
        header[name] = {"dtype": "F16", "shape": [*tensor.shape], "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def checkpoint(case: Case) -> Iterator[tuple[str, Any]]:
    """Names and tensors of the file, as the exporter has them, and the models behind them."""
    with torch.device("meta"), pytest.MonkeyPatch.context() as patch:
        parts = {**others(case.family), "unet": unet(case)}
        patch.setattr(writer, "load_model", lambda _, name: parts[name])
        info: Any = SimpleNamespace(family=case.family, tiny_vae=case.tiny_vae)
        for prefix, state in writer.original_layout(info, Path(), 1.0):
            yield from ((prefix + name, tensor) for name, tensor in state.items())


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[str, Any]:
    """Of each case, and of a file that lacks a tensor: whether it loads, and the loader's log."""
    folder = tmp_path_factory.mktemp("checkpoints")
    (folder / "taesd").mkdir()
    for name, case in CASES.items():
        state = dict(checkpoint(case))
        write_sparse(state, folder / f"{name}.safetensors")
        if case.tiny_vae:
            with torch.device("meta"):
                vae = diffusers.AutoencoderTiny().state_dict()
            write_sparse(vae, folder / "taesd" / f"{name}.safetensors")
            state.pop(next(name for name in state if ".output_blocks.5." in name))
            write_sparse(state, folder / "damaged.safetensors")
            write_sparse(vae, folder / "taesd" / "damaged.safetensors")
    script = Path(__file__).with_name("load_sdcpp.py")
    # Where its threads have something to say, its Python module waits for ever: an unknown tensor.
    subprocess.run(
        [sys.executable, script, folder], check=True, timeout=600, stdout=subprocess.DEVNULL
    )
    lines = (folder / "said.jsonl").read_text(encoding="utf-8").splitlines()
    return {name: (loaded, log) for name, loaded, log in map(json.loads, lines)}


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_has_its_place(said, name):
    loaded, log = said[name]
    texts = [text for _, text in log]
    assert loaded, texts
    assert any(text.endswith(f"Version: {CASES[name].version}") for text in texts), texts
    assert not [text for text in texts if "unknown tensor" in text or "not in model file" in text]


def test_a_file_that_lacks_a_tensor_is_refused(said):
    loaded, log = said["damaged"]
    assert not loaded
    assert any("output_blocks.5." in text and "not in model file" in text for _, text in log)
