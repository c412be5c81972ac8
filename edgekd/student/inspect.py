"""`edgekd inspect`: size and work of every component of a pipeline, without its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from edgekd.artifacts import read_json
from edgekd.errors import InputError
from edgekd.recipe import validate
from edgekd.student.cost import (
    Cost,
    TextEncoderConfig,
    text_encoder_cost,
    unet_cost,
    vae_cost,
)
from edgekd.student.reference import ARCHITECTURES
from edgekd.student.resolve import full
from edgekd.student.resolve import preset as preset_arch
from edgekd.student.shape import read_config

_TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
_FP32_BYTES = 4.0
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit


def inspect_components(
    path: Path | None = None, arch: str | None = None, preset: str | None = None
) -> dict[str, Any]:
    """Parameters, tensors, MACs and bytes of each component.

    Args:
        path: a pipeline folder. Configs are read, and of the weights only the headers.
        arch: instead of a folder, a published architecture: `sd15`, `sd21` or `sdxl`.
        preset: replace the U-Net by this student of it; see `edgekd.student.resolve.PRESETS`.

    Returns:
        `{"components": {name: {"parameters", "tensors", "macs", "bytes"}}, "total": {...},
        "latent_size": [h, w], ...}`. The components are those of the pipeline (`text_encoder`,
        `unet`, `vae`, for SDXL `text_encoder_2`), and the two halves of the VAE apart:
        `vae_encoder` and `vae_decoder`, which `total` does not count twice. MACs are of one
        call at batch 1 and the U-Net's native latent size, half of what torch's FlopCounter
        counts. Bytes are of the weights in the precision they are stored in; where there are
        none (`arch`, or a folder of configs alone), of fp32.

    Raises:
        InputError: not exactly one of `path` and `arch`, an unknown name, or a folder that is
            no Stable Diffusion pipeline.
    """
    if (path is None) == (arch is None):
        raise InputError(
            "exactly one of a pipeline folder and `--arch` must be given",
            "both" if path is not None else "none",
        )
    if path is not None:
        configs = _read_configs(path)
    elif arch in ARCHITECTURES:
        configs = ARCHITECTURES[arch]
    else:
        raise InputError(f"`--arch` must be one of {', '.join(ARCHITECTURES)}", repr(arch))
    costs = _costs(configs, preset)
    components = {
        name: {
            "parameters": cost.parameters,
            "tensors": cost.tensors,
            "macs": cost.macs,
            "bytes": round(cost.parameters * size),
        }
        for name, (cost, size) in _with_sizes(costs, path, preset).items()
    }
    whole = [value for name, value in components.items() if name in configs]
    return {
        "source": str(path) if path is not None else arch,
        "student": preset,
        "latent_size": list(_latent_size(configs["unet"])),
        "components": components,
        "total": {key: sum(value[key] for value in whole) for key in whole[0]},
    }


def _costs(configs: Mapping[str, Mapping[str, Any]], preset: str | None) -> dict[str, Cost]:
    unet = configs["unet"]
    latent = _latent_size(unet)
    costs: dict[str, Cost] = {}
    for name in _TEXT_ENCODERS:
        if name in configs:
            costs[name] = text_encoder_cost(configs[name], projection=name == "text_encoder_2")
    tokens = validate(
        TextEncoderConfig, dict(configs["text_encoder"]), "the text encoder"
    ).max_position_embeddings
    arch = full(unet) if preset is None else preset_arch(preset, unet)
    costs["unet"] = unet_cost(arch, unet, latent, tokens)
    encoder, decoder = vae_cost(configs["vae"], latent)
    return {**costs, "vae": encoder + decoder, "vae_encoder": encoder, "vae_decoder": decoder}


def _with_sizes(
    costs: Mapping[str, Cost], path: Path | None, preset: str | None
) -> dict[str, tuple[Cost, float]]:
    """Costs with the stored bytes a parameter of their component."""
    sizes: dict[str, float] = {}
    for name, cost in costs.items():
        if name.startswith("vae_"):
            continue
        known = None if name == "unet" and preset is not None else cost.parameters
        sizes[name] = _FP32_BYTES if path is None else _stored_size(path / name, known)
    return {name: (cost, sizes[name.split("_")[0] if name.startswith("vae") else name])
            for name, cost in costs.items()}  # fmt: skip


def _stored_size(folder: Path, parameters: int | None) -> float:
    """Bytes a parameter of a component's safetensors files; of fp32 if there are none.

    Args:
        parameters: what the files must hold, or None where a student takes their place.
    """
    stem = "model" if folder.name in _TEXT_ENCODERS else "diffusion_pytorch_model"
    count = size = 0
    for file in _weight_files(folder, stem):
        for name, entry in read_header(file).items():
            if name == "__metadata__" or name.endswith("position_ids"):
                continue
            count += prod(entry["shape"])
            size += entry["data_offsets"][1] - entry["data_offsets"][0]
    if count == 0:
        return _FP32_BYTES
    if parameters is not None and count != parameters:
        raise InputError(
            f"the weights in `{folder}` must have the {parameters} parameters of its config",
            str(count),
        )
    return size / count


def _weight_files(folder: Path, stem: str) -> list[Path]:
    """One set of safetensors files of a component: whole or in shards, before fp16 variants."""
    for variant in ("", ".fp16"):
        whole = folder / f"{stem}{variant}.safetensors"
        shards = sorted(folder.glob(f"{stem}{variant}-*-of-*.safetensors"))
        if whole.is_file() or shards:
            return [whole] if whole.is_file() else shards
    return []


def read_header(file: Path) -> dict[str, dict[str, Any]]:
    """The JSON header of a safetensors file: 8 bytes of its length, then the text.

    Read by hand, because the safetensors library comes with a tensor library.

    Raises:
        InputError: no safetensors file.
    """
    with open(file, "rb") as stream:
        start = stream.read(8)
        length = int.from_bytes(start, "little")
        text = stream.read(length) if len(start) == 8 and length <= _MAX_HEADER_BYTES else b""
    try:
        header = json.loads(text)
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise InputError(
            f"`{file}` must be a whole safetensors file",
            f"{file.stat().st_size} bytes without its header",
            "Copy or download it again.",
        )
    return header


def _read_configs(path: Path) -> dict[str, dict[str, Any]]:
    """Configs of a pipeline folder's models."""
    index = _mapping(path / "model_index.json")
    names = ["text_encoder", "unet", "vae"]
    if index.get("text_encoder_2") not in (None, [None, None]):
        names.insert(1, "text_encoder_2")
    missing = [name for name in names if not (path / name / "config.json").is_file()]
    if missing:
        raise InputError(
            "a Stable Diffusion pipeline folder must have the configs of " + ", ".join(names),
            f"no {', '.join(missing)} in {path}",
        )
    configs = {name: _mapping(path / name / "config.json") for name in names}
    for name, known in (("unet", "UNet2DConditionModel"), ("vae", "AutoencoderKL")):
        kind = configs[name].get("_class_name", known)
        if kind != known:
            raise InputError(f"`{name}` of a Stable Diffusion pipeline must be {known}", repr(kind))
    for name in _TEXT_ENCODERS:
        if name in configs:
            configs[name] = configs[name].get("text_config") or configs[name]
    return configs


def _mapping(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"`{path}` must hold a JSON object", type(value).__name__)
    return value


def _latent_size(unet: Mapping[str, Any]) -> tuple[int, int]:
    size = read_config(unet).sample_size
    if size is None:
        raise InputError("`sample_size` of the U-Net must be its latent's side", "null")
    return size if isinstance(size, tuple) else (size, size)
