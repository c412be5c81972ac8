"""`edgekd generate`: draw pictures with a diffusers or an exported folder."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd.diffusion.resolve import resolve_pipeline
from edgekd.errors import InputError
from edgekd.files import check_writable, resolved
from edgekd.folders import atomic_folder
from edgekd.jobs.prompts import check_prompts, say_what_is_cut
from edgekd.progress import Progress, Silent

if TYPE_CHECKING:
    from edgekd.export.protocol import Generation


def _check_steps(drawer: Any, steps: int) -> None:
    """Each scheduler has bounds of its own, which it states when it is asked for the steps."""
    try:
        drawer.scheduler.set_timesteps(steps)
    except ValueError as error:
        raise InputError(
            "the pipeline's scheduler must take `--steps`",
            f"{steps} ({' '.join(str(error).split())})",
        ) from None


def _open_export(folder: Path) -> Any:
    """An exported folder as an object that is called like a diffusers pipeline.

    Raises:
        InputError: a manifest that is none, or parts that the runtime cannot open.
    """
    from edgekd.export.manifest import read_manifest
    from edgekd.export.registry import get_exporter

    exporter = get_exporter(read_manifest(folder).runtime)
    try:
        return exporter.load(folder)
    except InputError:
        raise
    # onnxruntime and its like raise bare Exception subclasses of their own.
    except Exception as error:
        message = " ".join(str(error).split())
        raise InputError(
            f"the export must load in {exporter.name}",
            f"{folder} ({message[:300]})",
            "Export it again.",
        ) from error


def recommended(folder: Path) -> Generation:
    """Steps and guidance of an export's manifest or a student's model card, else edgekd's own."""
    from edgekd.benchmark.generation import stated_generation
    from edgekd.export.protocol import Generation

    said = stated_generation(folder)
    return Generation(said.steps, said.guidance_scale) if said else Generation()


def generate_run(
    pipeline: Path,
    prompts: list[str],
    out: Path,
    seed: int,
    steps: int | None = None,
    guidance_scale: float | None = None,
    progress: Progress = Silent(),  # noqa: B008 (it has no state)
) -> list[Path]:
    """`edgekd generate`: one PNG for each prompt; picture i draws its noise from `seed + i`.

    Args:
        steps, guidance_scale: None: as the folder recommends, see `recommended`.

    Raises:
        InputError: an empty prompt, a folder that is neither pipeline nor export or is damaged, an
            `out` that exists or cannot be made.
    """
    check_writable(out)
    if os.path.lexists(out):
        raise InputError("`--out` must be a new folder", str(out))
    out = resolved(out)
    check_prompts(prompts)
    if guidance_scale is not None and not math.isfinite(guidance_scale):
        raise InputError("`--guidance` must be finite", str(guidance_scale))
    source = resolve_pipeline(str(pipeline))
    import torch

    if (source / "manifest.json").is_file():
        drawer = _open_export(source)
    else:
        from edgekd.diffusion.load import load_pipeline

        drawer = load_pipeline(source)
    say_what_is_cut(source, prompts, progress)
    generation = recommended(source)
    steps = generation.steps if steps is None else steps
    guidance_scale = generation.guidance_scale if guidance_scale is None else guidance_scale
    _check_steps(drawer, steps)
    generators = [torch.Generator().manual_seed(seed + i) for i in range(len(prompts))]
    pictures = drawer(
        prompts, num_inference_steps=steps, guidance_scale=guidance_scale, generator=generators
    ).images
    names = [f"{i:04d}.png" for i in range(len(prompts))]
    with atomic_folder(out, record=False) as folder:
        for name, picture in zip(names, pictures, strict=True):
            picture.save(folder / name)
    return [out / name for name in names]
