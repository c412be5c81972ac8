"""From the original layout to that of diffusers, one component at a time.

diffusers' own functions rename and split the tensors. They pass over names that they do not know,
so the numbers in and out are counted.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from edgekd.diffusion.components import CONFIG_FAULTS, read_config, shorten, weights_stem
from edgekd.diffusion.single_file.checkpoint import TEXT, UNET, VAE
from edgekd.diffusion.single_file.configs import Config, resblocks
from edgekd.diffusion.weights import StoredTensor, check_finite, check_floats, find_weights
from edgekd.errors import InputError
from edgekd.files import write_json
from edgekd.libraries import diffusers

Tensors = Mapping[str, StoredTensor]
State = dict[str, Tensor]

# Layers of Stable Diffusion 2's text encoder as OpenCLIP trained it; the U-Net reads what the last
# but one gives.
_WHOLE_TOWER = 24


def write_unet(folder: Path, tensors: Tensors, config: Config) -> None:
    state = _read(tensors, UNET)
    library = _library()
    _write(folder, lambda: library.convert_ldm_unet_checkpoint(dict(state), config), config, state)


def write_vae(folder: Path, tensors: Tensors, config: Config) -> None:
    state = _read(tensors, VAE)
    library = _library()
    _write(folder, lambda: library.convert_ldm_vae_checkpoint(dict(state), config), config, state)


def write_clip(folder: Path, tensors: Tensors, config: Config) -> None:
    # A buffer of integers that some files have and every loader computes.
    weights = {name: one for name, one in tensors.items() if not name.endswith("position_ids")}
    state = _read(weights, TEXT["sd1"][0])
    library = _library()
    _write(folder, lambda: library.convert_ldm_clip_checkpoint(dict(state)), config, state)


def write_open_clip(folder: Path, tensors: Tensors, config: Config) -> None:
    # The function leaves out what it knows to be unused under Stable Diffusion 2's prefix; here
    # `drawing_layers` has done it, for any number of layers.
    prefix = TEXT["sdxl"][1]
    state = _read(tensors, prefix)
    width = SimpleNamespace(config=SimpleNamespace(hidden_size=config["hidden_size"]))
    library = _library()

    def convert() -> State:
        converted: State = library.convert_open_clip_checkpoint(width, dict(state), prefix)
        return converted

    _write(folder, convert, config, state)


def drawing_layers(tensors: Tensors, projected: bool) -> dict[str, StoredTensor]:
    """What of an OpenCLIP text encoder a pipeline reads.

    Args:
        projected: SDXL's, whose last layer and projection give the pooled embedding. Stable
            Diffusion 2 has no use for either, and files that were made of a diffusers folder lack
            both.
    """
    found = {name: tensor for name, tensor in tensors.items() if name != "logit_scale"}
    if projected:
        return found
    count = resblocks(found)
    if "text_projection" in found or count == _WHOLE_TOWER:
        last = f"transformer.resblocks.{count - 1}."
        found = {name: tensor for name, tensor in found.items() if not name.startswith(last)}
        found.pop("text_projection", None)
    return found


def _library() -> Any:
    from diffusers.loaders import single_file_utils

    assert diffusers is not None  # imported first: see `edgekd.libraries`
    return single_file_utils


def _read(tensors: Tensors, prefix: str) -> State:
    """A part's tensors in the dtype they are stored in, under the prefix that diffusers knows.

    Raises:
        InputError: quantized, or not finite.
    """
    check_floats(tensors.values())
    state: State = {}
    files = {tensor.file for tensor in tensors.values()}
    for file in files:
        with safe_open(str(file), framework="pt") as handle:
            for name, tensor in tensors.items():
                if tensor.file == file:
                    value = handle.get_tensor(tensor.name)
                    check_finite(value, tensor)
                    state[prefix + name] = value
    return state


def _write(folder: Path, convert: Callable[[], State], config: Config, read: State) -> None:
    try:
        converted = convert()
    # Of an incomplete file they raise what they stumble over.
    except CONFIG_FAULTS as error:
        raise InputError(
            f"the {folder.name} must be complete", f"{type(error).__name__}: {shorten(error)}"
        ) from None
    before, after = (sum(value.numel() for value in state.values()) for state in (read, converted))
    if before != after:
        raise InputError(
            f"every tensor of the {folder.name} must have a place in diffusers' layout",
            f"{after} of {before} numbers",
            "The file is of another architecture.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    whole = {name: value.contiguous() for name, value in converted.items()}
    save_file(whole, folder / f"{weights_stem(folder.name)}.safetensors", {"format": "pt"})
    write_json(folder / "config.json", config)


def copy_vae(source: Path, folder: Path) -> None:
    """Copy the VAE of a diffusers folder, or a folder that is one.

    Raises:
        InputError: it has no config or no safetensors weights.
    """
    place = source / "vae" if (source / "vae").is_dir() else source
    read_config(place / "config.json")
    folder.mkdir(parents=True)
    for file in (place / "config.json", *find_weights(place, weights_stem("vae"))):
        shutil.copyfile(file, folder / file.name)
    for index in place.glob("*.index*.json"):
        shutil.copyfile(index, folder / index.name)
