"""Build a student from its teacher's weights, and save it as a stock pipeline folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgekd.diffusion.components import load_tokenizer, text_to_image
from edgekd.diffusion.weights import plain_names
from edgekd.errors import InputError
from edgekd.files import write_json
from edgekd.folders import atomic_folder
from edgekd.libraries import diffusers
from edgekd.reading import read_json
from edgekd.student.arch import StudentArch
from edgekd.student.config import to_unet_config
from edgekd.student.importance import Importance, magnitude_importance
from edgekd.student.mapping import inherit, tensor_map

_PICKLES = (".bin", ".ckpt", ".pt", ".pth")
# What a pipeline may list and draws without: some folders come without their files.
_DISPENSABLE = ("feature_extractor", "image_encoder", "safety_checker")


def build_student(unet: Any, arch: StudentArch, importance: Importance | None = None) -> Any:
    """A student `UNet2DConditionModel` with every tensor inherited from the teacher's.

    It is built from a stock config and loaded strictly, so no weight can stay random and no
    random number is drawn. dtype and device are the teacher's. A full arch equals the teacher
    bit for bit; so does its output, if the teacher's weights are aligned in memory as torch
    aligns them (`edgekd.diffusion.load` does; weights mapped from a file may use other kernels
    and differ in the last bit) and both U-Nets are frozen or both trainable (torch folds a batch
    into one product where weights want gradients).

    Args:
        unet: the teacher's `UNet2DConditionModel`; not changed.
        importance: per weight of the teacher, for choosing channels; None: magnitude.

    Returns:
        The student in evaluation mode, trainable.

    Raises:
        InputError: see `edgekd.student.plan.plan_student`.
    """
    teacher_config = dict(unet.config)
    state = unet.state_dict()
    if importance is None:
        importance = magnitude_importance(state)
    sources = tensor_map(arch, teacher_config, importance)
    with torch.device("meta"):
        student = diffusers.UNet2DConditionModel.from_config(to_unet_config(arch, teacher_config))
    inherited = {name: inherit(source, state) for name, source in sources.items()}
    student.load_state_dict(inherited, strict=True, assign=True)
    return student.requires_grad_(True).eval()


@dataclass(frozen=True)
class DrawingPlan:
    """How pictures are drawn: a diffusers scheduler, its steps, the guidance scale."""

    scheduler: Any
    steps: int
    guidance_scale: float


def save_model(model: Any, out: Path) -> None:
    """Write what a phase trained as diffusers does, whole or not at all, with safetensors."""
    with atomic_folder(out) as folder:
        model.save_pretrained(folder, safe_serialization=True)
        for config in folder.rglob("config.json"):
            _forget_origin(config)


def save_student(
    teacher_path: Path,
    unet: Any,
    out: Path,
    taught: Mapping[str, Path] | None = None,
    deployed: DrawingPlan | None = None,
    complete: Callable[[Path], None] | None = None,
) -> None:
    """Write a whole pipeline folder: the student's U-Net, the teacher's other components.

    The folder loads in stock diffusers. It appears under its name only when it is whole. Of
    a component that has safetensors, pickled copies of the same weights are left out;
    everything else is copied as it is, licence files included. What stock loaders would not
    find is given the usual names.

    Args:
        taught: folders of other components that take the place of the teacher's, by name.
        deployed: how it is drawn, which its scheduler then says; None: as its teacher.
        complete: adds to the folder before it appears.

    Raises:
        InputError: `teacher_path` is no pipeline folder, or a component that draws is missing.
    """
    index = read_json(teacher_path / "model_index.json")
    if not isinstance(index, dict) or "unet" not in index:
        raise InputError(
            f"`{teacher_path / 'model_index.json'}` must list a `unet`", type(index).__name__
        )
    index, taught = text_to_image(index), taught or {}
    with atomic_folder(out) as folder:
        for name in _components(index):
            if name in _DISPENSABLE and not (teacher_path / name).exists():
                index[name] = [None, None]
            elif name in taught:
                _copy_component(taught[name], folder / name)
                if name == "vae":
                    index[name][1] = read_json(taught[name] / "config.json")["_class_name"]
            elif name != "scheduler" or deployed is None:
                _copy_component(teacher_path / name, folder / name)
        if index.get("safety_checker", [None])[0] is None and "requires_safety_checker" in index:
            index["requires_safety_checker"] = False
        for path in sorted(teacher_path.iterdir()):
            if path.is_file() and path.name.upper().startswith(("LICENSE", "LICENCE", "NOTICE")):
                shutil.copy2(path, folder / path.name)
        unet.save_pretrained(folder / "unet", safe_serialization=True)
        _forget_origin(folder / "unet" / "config.json")
        index["unet"] = ["diffusers", "UNet2DConditionModel"]
        if deployed is not None:
            deployed.scheduler.save_pretrained(folder / "scheduler")
            index["scheduler"] = ["diffusers", type(deployed.scheduler).__name__]
        index.pop("_name_or_path", None)
        write_json(folder / "model_index.json", index)
        if complete is not None:
            complete(folder)


def _components(index: dict[str, Any]) -> list[str]:
    """Folders that a `model_index.json` lists, without the U-Net."""
    outside = [name for name in index if Path(name).name != name]
    if outside:
        raise InputError("`model_index.json` must name folders beside it", ", ".join(outside))
    return [
        name
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and value[0] is not None and name != "unet"
    ]


def _copy_component(source: Path, destination: Path) -> None:
    if not source.is_dir():
        raise InputError(f"the pipeline folder must have `{source.name}`", f"no folder {source}")
    has_safetensors = any(source.glob("*.safetensors"))

    def skip(_: str, names: list[str]) -> set[str]:
        return {name for name in names if has_safetensors and name.endswith(_PICKLES)}

    # Links are followed: in a download cache the files are links.
    shutil.copytree(source, destination, ignore=skip)
    names = [path.name for path in destination.iterdir()]
    for stem in ("model", "diffusion_pytorch_model"):
        for old, new in plain_names(names, stem).items():
            (destination / old).rename(destination / new)
    if source.name.startswith("tokenizer") and "tokenizer_config.json" not in names:
        load_tokenizer(source).save_pretrained(destination)


def _forget_origin(config_path: Path) -> None:
    """Drop the path of the machine that made the model from its config."""
    config = read_json(config_path)
    config.pop("_name_or_path", None)
    write_json(config_path, config)
