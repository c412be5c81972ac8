"""Start a run from a finished teacher: check that it fits the recipe, then take its parts.

The VAE and the text encoder with its tokenizer become the results of their
stages as they are. The U-Net's weights, and their averages, are the first of the
U-Net stage; the optimiser and the warm-up begin anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from edgekd.diffusion.components import empty_model, load_scheduler, load_tokenizer
from edgekd.diffusion.load import load_model
from edgekd.diffusion.noise_schedule import build_scheduler
from edgekd.diffusion.resolve import resolve_pipeline
from edgekd.diffusion.validate import TeacherInfo, inspect_teacher
from edgekd.errors import InputError
from edgekd.file_record import finish
from edgekd.files import hash_value
from edgekd.folders import atomic_folder, finished
from edgekd.teach.loop import Task
from edgekd.teach.ranks import Ranks
from edgekd.teach.recipe import TeachRecipe
from edgekd.teach.text import build_text_encoder, build_tokenizer
from edgekd.teach.unet import build_unet
from edgekd.teach.vae import build_vae

PIPELINE_CLASS = "StableDiffusionPipeline"
# Measured on the finished autoencoder, not chosen by a recipe.
VAE_MEASURED = {"scaling_factor"}
# What decides a text encoder's tensors and what it computes; the rest says how to train or to save.
TEXT_FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "hidden_act",
    "layer_norm_eps",
    "eos_token_id",
)
# What decides the noise that a U-Net was trained on; the sampler is free.
SCHEDULE_FIELDS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "rescale_betas_zero_snr",
)
SHOWN = 3


def find_start(recipe: TeachRecipe) -> TeacherInfo | None:
    """The teacher that the recipe's `start_from` names; None: it names none.

    Raises:
        InputError: no teacher folder, or one of another structure than the recipe's.
    """
    if recipe.start_from is None:
        return None
    info = inspect_teacher(resolve_pipeline(recipe.start_from, "`start_from` teacher"))
    if info.pipeline_class != PIPELINE_CLASS:
        raise InputError(f"`start_from` must name a {PIPELINE_CLASS}", info.pipeline_class)
    differences = list(_differences(recipe, info.path))
    if differences:
        more = len(differences) - SHOWN
        raise InputError(
            "the teacher of `start_from` must have the recipe's structure",
            "; ".join(differences[:SHOWN]) + (f"; and {more} more" if more > 0 else ""),
            "Change the recipe to the teacher's values, or train from scratch.",
        )
    return info


def adopt_parts(start: TeacherInfo, out: Path, ranks: Ranks) -> None:
    """Make the start's VAE and text encoder the results of their stages in a run folder.

    Raises:
        InputError: weights that are not finite.
    """
    key = hash_value(["start", start.key])
    folders = out / "vae" / "model", out / "text" / "model"
    if ranks.first:
        for folder in folders:
            if finished(folder, key) is None:
                with atomic_folder(folder) as temporary:
                    if folder is folders[0]:
                        load_model(start.path, "vae").save_pretrained(temporary)
                    else:
                        encoder = load_model(start.path, "text_encoder")
                        encoder.save_pretrained(temporary / "text_encoder")
                        tokenizer = load_tokenizer(start.path / "tokenizer")
                        tokenizer.save_pretrained(temporary / "tokenizer")
                    finish(temporary, key, start_key=start.key)
    ranks.wait()


def take_weights(task: Task, start: TeacherInfo) -> None:
    """Give the U-Net of a task the start's weights.

    Raises:
        InputError: weights that are not finite.
    """
    task.modules["unet"].load_state_dict(load_model(start.path, "unet").state_dict())
    task.trained = True


def _differences(recipe: TeachRecipe, path: Path) -> Iterator[str]:
    """Each field that differs, as `unet layers_per_block 2 where the recipe has 1`."""
    tokenizer, wanted_tokenizer = load_tokenizer(path / "tokenizer"), build_tokenizer(recipe.text)
    with torch.device("meta"):
        unet = build_unet(recipe)
        vae = build_vae(recipe.vae, recipe.data.resolution, recipe.seed)
        text = build_text_encoder(recipe.text, wanted_tokenizer, recipe.seed)
    yield from _fields("unet", empty_model(path / "unet").config, unet.config)
    vae_wanted = {name: value for name, value in vae.config.items() if name not in VAE_MEASURED}
    yield from _fields("vae", empty_model(path / "vae").config, vae_wanted)
    text_found = empty_model(path / "text_encoder").config.to_dict()
    text_wanted = text.config.to_dict()
    yield from _fields(
        "text_encoder", text_found, {name: text_wanted[name] for name in TEXT_FIELDS}
    )
    scheduler, schedule = load_scheduler(path / "scheduler"), build_scheduler().config
    yield from _fields(
        "scheduler", scheduler.config, {name: schedule[name] for name in SCHEDULE_FIELDS}
    )
    found, wanted = tokenizer.model_max_length, wanted_tokenizer.model_max_length
    yield from _fields("tokenizer", {"max_tokens": found}, {"max_tokens": wanted})
    if tokenizer.get_vocab() != wanted_tokenizer.get_vocab():
        yield f"tokenizer of {len(tokenizer)} tokens that are not the recipe's"


def _fields(part: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for name, value in wanted.items():
        if name.startswith("_"):
            continue
        here, there = _plain(found.get(name)), _plain(value)
        if here != there:
            yield f"{part} {name} {here} where the recipe has {there}"


def _plain(value: Any) -> Any:
    """Configs hold tuples or lists, by how they came."""
    return list(value) if isinstance(value, tuple) else value
