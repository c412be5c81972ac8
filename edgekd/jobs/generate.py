"""`edgekd generate`: draw pictures with a diffusers or an exported folder."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgekd.diffusion.resolve import resolve_pipeline
from edgekd.errors import EdgekdError, GateError, InputError
from edgekd.files import check_writable, resolved
from edgekd.folders import atomic_folder
from edgekd.jobs.prompts import say_what_is_cut
from edgekd.progress import Progress, Silent
from edgekd.reading import Fields
from edgekd.runtime.conditions import check_prompts, open_tokenizers
from edgekd.runtime.folder import is_sdxl_class
from edgekd.runtime.sampler_names import sampler_class

if TYPE_CHECKING:
    from edgekd.runtime.folder import Shapes


def _open_export(folder: Path) -> Any:
    """An exported folder as an object that is called like a diffusers pipeline.

    Raises:
        InputError: a manifest that is none, or parts that the runtime cannot open.
    """
    from edgekd.export.manifest import read_manifest
    from edgekd.export.registry import get_exporter

    exporter = get_exporter(read_manifest(folder).runtime)
    kind = Fields.read(folder / "model_index.json").text("_class_name")
    open_tokenizers(folder, is_sdxl_class(kind))
    with _damage_said(f"the export must load in {exporter.name}", folder):
        return exporter.load(folder)


@contextlib.contextmanager
def _damage_said(rule: str, folder: Path) -> Iterator[None]:
    """Whatever a runtime finds wrong with an exported folder ends in one line."""
    try:
        yield
    except (EdgekdError, MemoryError):
        raise
    # onnxruntime and its like raise bare Exception subclasses of their own.
    except Exception as error:
        message = " ".join(str(error).split())
        raise InputError(rule, f"{folder} ({message[:300]})", "Export it again.") from error


@dataclass(frozen=True)
class DrawRequest:
    """What is asked for; None: as the folder recommends, or its own.

    Attributes:
        seed: picture i draws its noise from `seed + i`.
        sampler: another one than the folder's, by diffusers' class or an alias.
    """

    prompts: list[str]
    negative_prompt: str | None = None
    seed: int = 0
    steps: int | None = None
    guidance_scale: float | None = None
    height: int | None = None
    width: int | None = None
    sampler: str | None = None


def generate_run(
    pipeline: Path,
    drawing: DrawRequest,
    out: Path,
    progress: Progress = Silent(),  # noqa: B008 (it has no state)
) -> list[Path]:
    """`edgekd generate`: one PNG for each prompt.

    Raises:
        InputError: an empty prompt, a folder that is neither pipeline nor export or is damaged, an
            `out` that exists or cannot be made, what the folder or its sampler cannot draw.
        GateError: the model's pictures are not finite.
    """
    check_writable(out)
    if os.path.lexists(out):
        raise InputError("`--out` must be a new folder", str(out))
    out = resolved(out)
    check_prompts(drawing.prompts)
    scale = drawing.guidance_scale
    if scale is not None and not 0 <= scale < math.inf:
        raise InputError("`0 <= --guidance < inf` must hold", str(scale))
    sampler = None if drawing.sampler is None else sampler_class(drawing.sampler)
    source = resolve_pipeline(str(pipeline))
    drawer = _open(source)
    if sampler is not None:
        from edgekd.benchmark.torch_drawer import set_scheduler

        set_scheduler(drawer, sampler)
    say_what_is_cut(source, drawing.prompts, progress)
    pictures = _draw(drawer, _arguments(drawing, drawer, source), source)
    names = [f"{i:04d}.png" for i in range(len(drawing.prompts))]
    with atomic_folder(out, record=False) as folder:
        for name, picture in zip(names, pictures, strict=True):
            Image.fromarray(picture).save(folder / name)
    return [out / name for name in names]


def _draw(drawer: Any, arguments: dict[str, Any], source: Path) -> npt.NDArray[np.uint8]:
    """Pictures [N,H,W,3].

    Raises:
        InputError: parts of an export that do not fit each other.
        GateError: pictures that are not finite.
    """
    rule = "the parts of the export must fit each other"
    with _damage_said(rule, source) if _is_export(source) else contextlib.nullcontext():
        pictures = drawer(**arguments, output_type="np").images
    if not np.isfinite(pictures).all():
        raise GateError("pictures must be finite", "NaN or infinity from the model")
    return np.asarray((pictures * 255).round(), np.uint8)


def _open(source: Path) -> Any:
    if _is_export(source):
        return _open_export(source)
    from edgekd.diffusion.load import load_pipeline

    return load_pipeline(source)


def _is_export(source: Path) -> bool:
    return (source / "manifest.json").is_file()


def _arguments(drawing: DrawRequest, drawer: Any, source: Path) -> dict[str, Any]:
    """What a diffusers pipeline is called with.

    Raises:
        InputError: it cannot draw that.
    """
    import torch

    from edgekd.benchmark.generation import recommended_generation
    from edgekd.diffusion.scheduler_rules import check_steps

    generation = recommended_generation(source)
    steps = generation.steps if drawing.steps is None else drawing.steps
    scale = drawing.guidance_scale
    check_steps(drawer.scheduler, steps)
    arguments = {
        "prompt": drawing.prompts,
        "num_inference_steps": steps,
        "guidance_scale": generation.guidance_scale if scale is None else scale,
        "generator": [
            torch.Generator().manual_seed(drawing.seed + i) for i in range(len(drawing.prompts))
        ],
    }
    if drawing.height is not None or drawing.width is not None:
        shapes = _shapes(drawer, source)
        height, width = drawing.height or shapes.native[0], drawing.width or shapes.native[1]
        shapes.check((height, width))
        arguments |= {"height": height, "width": width}
    if drawing.negative_prompt:
        if "negative_prompt" not in signature(drawer.__call__).parameters:
            raise InputError(
                "a guidance-distilled pipeline takes no negative prompt", drawing.negative_prompt
            )
        arguments["negative_prompt"] = [drawing.negative_prompt] * len(drawing.prompts)
    return arguments


def _shapes(drawer: Any, source: Path) -> Shapes:
    if _is_export(source):
        from edgekd.export.manifest import read_manifest

        return read_manifest(source).shapes
    from edgekd.export.outline import shapes

    return shapes(drawer, dynamic=True)
