"""From a run folder's parts to a `StableDiffusionPipeline`: for sample sheets and for use."""

from __future__ import annotations

import copy
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgekd.diffusion.noise_schedule import build_scheduler
from edgekd.errors import InputError
from edgekd.file_record import ARTIFACT_FILE
from edgekd.files import check_writable, hash_tree, hash_value, write_text
from edgekd.folders import atomic_folder
from edgekd.progress import Silent
from edgekd.reading import read_json
from edgekd.schema import validate
from edgekd.teach.plots import write_grid
from edgekd.teach.recipe import SampleSection, TeachRecipe
from edgekd.teach.unet import build_unet
from edgekd.training.checkpoint import CHECKPOINTS, Checkpoints

TEACHER = "teacher"
RECIPE_FILE = "recipe.json"
UNET_STRUCTURE = {"block_out_channels", "layers_per_block", "heads", "norm_num_groups"}


def build_pipeline(vae: Any, text_encoder: Any, tokenizer: Any, unet: Any) -> Any:
    """A stock `StableDiffusionPipeline` of these parts, without safety checker."""
    from edgekd.libraries import diffusers

    pipeline = diffusers.StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_vae(out: Path) -> Any:
    """The finished autoencoder of a run."""
    from edgekd.libraries import diffusers

    return diffusers.AutoencoderKL.from_pretrained(_part(out / "vae" / "model"))


def load_text(out: Path) -> tuple[Any, Any]:
    """The pre-trained text encoder of a run, and its tokenizer."""
    from edgekd.libraries import transformers

    folder = _part(out / "text" / "model")
    encoder = transformers.CLIPTextModel.from_pretrained(folder / "text_encoder")
    return encoder, transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")


def part_key(run: Path, stage: str) -> str:
    """The hash of a finished stage's content."""
    return hash_tree(_part(run / stage / "model"), exclude=(ARTIFACT_FILE,))


def unet_structure(recipe: TeachRecipe, run: Path) -> list[Any]:
    """What a checkpoint of the U-Net must share with a run whose other stages are finished."""
    structure = [
        "unet",
        part_key(run, "vae"),
        part_key(run, "text"),
        recipe.unet.model_dump(include=UNET_STRUCTURE),
        recipe.unet.text_learning_rate > 0,
    ]
    start = read_json(run / "vae" / "model" / ARTIFACT_FILE).get("start_key")
    return structure if start is None else [*structure, start]


def _part(folder: Path) -> Path:
    if not folder.is_dir():
        raise InputError("the stages before must be finished", f"no {folder}", "Run the recipe on.")
    return folder


def assemble_run(run: Path, out: Path | None) -> tuple[Path, int]:
    """`edgekd teach assemble`: the teacher of a run folder as it is now; the run may go on.

    Args:
        out: a new folder; None: `teacher/` in the run folder, which is replaced.

    Returns:
        The pipeline folder, and the U-Net's step that the checkpoint is of.

    Raises:
        InputError: no run folder, `out` exists, or as `assemble`.
    """
    if not (run / RECIPE_FILE).is_file():
        found = f"{run} ({'without' if run.is_dir() else 'no folder with'} {RECIPE_FILE})"
        raise InputError("RUN must be the run folder of an `edgekd teach run`", found)
    if out is not None:
        check_writable(out)
        if os.path.lexists(out):
            raise InputError("`--out` must be a new folder", str(out))
    recipe = validate(TeachRecipe, read_json(run / RECIPE_FILE), f"`{run / RECIPE_FILE}`")
    step = assemble(recipe, run, out)
    return out or run / TEACHER, step


def assemble(recipe: TeachRecipe, run: Path, out: Path | None = None) -> int:
    """Write `teacher/`, or `out`, from the U-Net's newest intact checkpoint: averages, fp16.

    Works at any time, also while the run goes on.

    Returns:
        The checkpoint's step.

    Raises:
        InputError: the run has not come to the U-Net's first checkpoint, or only to one of
            another structure than the recipe's.
    """
    structure = hash_value(unet_structure(recipe, run))
    folder = run / "unet" / CHECKPOINTS
    checkpoint = Checkpoints(folder, structure).latest(Silent())
    if checkpoint is None:
        raise InputError(
            "the U-Net must have a checkpoint of the run's autoencoder, text encoder and recipe",
            f"none that is intact in {folder}",
            "Run the recipe on.",
        )
    text_encoder, tokenizer = load_text(run)
    modules: dict[str, nn.Module] = {"unet": build_unet(recipe), "text_encoder": text_encoder}
    averages = checkpoint.load("average")
    for module_name, module in modules.items():
        for name, parameter in module.named_parameters():
            # What was not trained keeps what it has.
            parameter.data.copy_(averages.get(f"{module_name}.{name}", parameter.data))
    write_pipeline(load_vae(run), modules, tokenizer, out or run / TEACHER)
    return checkpoint.step


def write_pipeline(vae: Any, modules: dict[str, nn.Module], tokenizer: Any, path: Path) -> None:
    """Save the parts as an fp16 pipeline folder, whole or not at all."""
    parts = [copy.deepcopy(part).half() for part in (vae, *modules.values())]
    pipeline = build_pipeline(parts[0], parts[2], tokenizer, parts[1])
    with atomic_folder(path) as temporary:
        pipeline.save_pretrained(temporary, safe_serialization=True)
        for weights in temporary.rglob("*.safetensors"):
            weights.chmod(0o644)
        for config in temporary.rglob("*.json"):
            values = json.loads(config.read_text(encoding="utf-8"))
            # Where the parts came from on this machine is no property of the teacher.
            if isinstance(values, dict) and values.pop("_name_or_path", None) is not None:
                write_text(config, json.dumps(values, indent=2) + "\n")


class SampleSheets:
    """Draws the recipe's prompts every so many minutes into `samples/`."""

    def __init__(self, section: SampleSection, folder: Path, vae: Any, tokenizer: Any, seed: int):
        self._section, self._folder, self._seed = section, folder, seed
        self._vae, self._tokenizer = vae, tokenizer
        self._last = time.monotonic()

    def watch(self, averaged: dict[str, nn.Module], step: int, last: bool) -> bool:
        """Draw if it is time; says whether it did."""
        if not last and time.monotonic() - self._last < 60 * self._section.every_minutes:
            return False
        self.draw(averaged, self._folder / f"{step:08d}.png")
        self._last = time.monotonic()
        return True

    def draw(self, averaged: dict[str, nn.Module], path: Path) -> None:
        """One picture per prompt, from the same noise each time."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unet, text_encoder = averaged["unet"], averaged["text_encoder"]
        pipeline = build_pipeline(self._vae, text_encoder, self._tokenizer, unet)
        side = self._vae.config.sample_size
        images = pipeline(
            list(self._section.prompts),
            height=side,
            width=side,
            num_inference_steps=self._section.steps,
            guidance_scale=self._section.guidance_scale,
            generator=[
                torch.Generator().manual_seed(self._seed + number)
                for number in range(len(self._section.prompts))
            ],
            output_type="pt",
        ).images
        write_grid(images.float() * 2 - 1, path, columns=8)
