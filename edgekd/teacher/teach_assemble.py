"""From a run folder's parts to a `StableDiffusionPipeline`: for sample sheets and for use."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgekd.artifacts import atomic_folder, write_text
from edgekd.errors import InputError
from edgekd.teacher.recipe import SampleSection, TeachRecipe
from edgekd.teacher.teach_loop import CHECKPOINT_FILE
from edgekd.teacher.teach_plots import write_grid
from edgekd.teacher.teach_unet import build_scheduler, build_unet

TEACHER = "teacher"


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


def _part(folder: Path) -> Path:
    if not folder.is_dir():
        raise InputError("the stages before must be finished", f"no {folder}", "Run the recipe on.")
    return folder


def assemble(recipe: TeachRecipe, out: Path) -> Path:
    """Write `teacher/` from the U-Net stage's last checkpoint: averaged weights, fp16.

    Works at any time, also while the run goes on.

    Raises:
        InputError: the run has not come to the U-Net's first checkpoint.
    """
    from safetensors import safe_open

    checkpoint = out / "unet" / CHECKPOINT_FILE
    if not checkpoint.is_file():
        raise InputError("the U-Net must have a checkpoint", f"no {checkpoint}")
    text_encoder, tokenizer = load_text(out)
    modules: dict[str, nn.Module] = {"unet": build_unet(recipe), "text_encoder": text_encoder}
    with safe_open(checkpoint, "pt") as file:
        names = set(file.keys())
        for module_name, module in modules.items():
            for name, parameter in module.named_parameters():
                stored = f"average.{module_name}.{name}"
                if stored in names:
                    parameter.data.copy_(file.get_tensor(stored))
    return write_pipeline(load_vae(out), modules, tokenizer, out / TEACHER)


def write_pipeline(vae: Any, modules: dict[str, nn.Module], tokenizer: Any, path: Path) -> Path:
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
    return path


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
