"""Inspect a teacher: every part of a diffusers pipeline folder, before any weight is loaded.

Configs and safetensors headers are read, models are built on the meta device,
and the parts are checked one by one and against each other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

from edgekd.diffusion.components import (
    INDEX_FILE,
    MODELS,
    PIPELINES,
    SAVE_AGAIN,
    SCHEDULER_FILE,
    TINY_VAE,
    TOKENIZERS,
    PipelineKind,
    empty_model,
    expected_shapes,
    load_scheduler,
    load_tokenizer,
    read_config,
    shorten,
    text_to_image,
    weights_stem,
)
from edgekd.diffusion.parts import check_runs
from edgekd.diffusion.rules import (
    check_latent_consistency,
    check_lengths,
    check_text,
    check_tokenizer,
    check_unet,
    check_vae,
    side,
)
from edgekd.diffusion.scheduler_rules import check_scheduler
from edgekd.diffusion.weights import find_weights, match_tensors, read_headers
from edgekd.errors import InputError
from edgekd.files import hash_file, hash_value

Family = Literal["sd1", "sd2", "sdxl"]
Prediction = Literal["epsilon", "v_prediction"]


@dataclass(frozen=True)
class TeacherInfo:
    """Facts of a valid teacher folder.

    Attributes:
        files: everything that is loaded.
        family: `sdxl` by its pipeline class; `sd2` if the U-Net uses linear projections.
        resolution: native side in pixels, `latent_size * vae_scale_factor`.
        vae_scale_factor: pixels per latent, along a side.
        unet_scale_factor: divides the sides of latents that the U-Net halves evenly.
        text_tokens: length of a prompt for the text encoders.
        components: names of the folders that are loaded.
        zero_empty_prompt: the pipeline's unconditional embedding is zeros, not the encoded "".
        tiny_vae: its VAE is an `AutoencoderTiny`.
        guidance_conditioned: its U-Net takes the guidance scale as an input (`time_cond_proj_dim`).
    """

    path: Path
    files: tuple[Path, ...]
    family: Family
    pipeline_class: str
    prediction_type: Prediction
    resolution: int
    latent_size: int
    latent_channels: int
    cross_attention_dim: int
    text_tokens: int
    vae_scale_factor: int
    unet_scale_factor: int
    components: tuple[str, ...]
    zero_empty_prompt: bool
    tiny_vae: bool
    guidance_conditioned: bool

    @property
    def key(self) -> str:
        """Hash of the content that is loaded: configs, weights, tokenizers, scheduler.

        Computed when asked for: it reads all weights, which not every caller needs.
        """
        return _content_key(self.path, self.files)


def inspect_folder(path: Path) -> TeacherInfo:
    """Check a pipeline folder and return its facts.

    Raises:
        InputError: a part is missing, unsafe or inconsistent with another.
    """
    index = _read_index(path)
    class_name = cast(str, index["_class_name"])
    kind = PIPELINES[class_name]
    _check_components(path, index, kind)
    vae_config = read_config(path / "vae" / "config.json")
    _check_named_alike(path, index, "vae", vae_config.get("_class_name"))
    scheduler = load_scheduler(path / "scheduler")
    check_scheduler(scheduler, path / "scheduler" / SCHEDULER_FILE)
    models = {name: empty_model(path / name) for name in kind.models}
    unet, vae = models["unet"].config, models["vae"].config
    sdxl = class_name == "StableDiffusionXLPipeline"
    check_vae(vae, sdxl)
    if sdxl and "scaling_factor" not in vae_config:
        # The default of the class is Stable Diffusion 1's.
        raise InputError("`vae/config.json` of an SDXL pipeline must have `scaling_factor`", "none")
    check_unet(unet, vae)
    if class_name == "LatentConsistencyModelPipeline":
        check_latent_consistency(unet, scheduler)
    _check_named_alike(path, index, "scheduler", type(scheduler).__name__)
    check_text(unet, [models[encoder].config for _, encoder in kind.text_pairs])
    tokens = _check_tokenizers(path, models, kind)
    latent_size = side(unet.sample_size)
    for name, model in models.items():
        check_runs(name, model, latent_size, tokens)
    files = [path / INDEX_FILE, path / "scheduler" / SCHEDULER_FILE]
    for name, model in models.items():
        files += _check_weights(path / name, model)
    for tokenizer, _ in kind.text_pairs:
        files += (file for file in (path / tokenizer).iterdir() if file.is_file())

    factor = 2 ** (len(vae.block_out_channels) - 1)
    return TeacherInfo(
        path=path,
        files=tuple(files),
        family="sdxl" if sdxl else "sd2" if unet.use_linear_projection else "sd1",
        pipeline_class=class_name,
        prediction_type=scheduler.config.prediction_type,
        resolution=latent_size * factor,
        latent_size=latent_size,
        latent_channels=vae.latent_channels,
        cross_attention_dim=unet.cross_attention_dim,
        text_tokens=tokens,
        vae_scale_factor=factor,
        unet_scale_factor=2 ** (len(unet.block_out_channels) - 1),
        components=kind.components,
        zero_empty_prompt=sdxl and bool(index.get("force_zeros_for_empty_prompt", True)),
        tiny_vae=type(models["vae"]).__name__ == TINY_VAE,
        guidance_conditioned=unet.time_cond_proj_dim is not None,
    )


def inspect_teacher(path: Path) -> TeacherInfo:
    """Check a folder to distil from. Less will do for a pipeline to export or to draw with.

    Raises:
        InputError: as `inspect_folder`; also a pipeline that is already made for few steps or for
            small devices.
    """
    info = inspect_folder(path)
    if info.tiny_vae:
        raise InputError(
            "the VAE of a teacher must be an AutoencoderKL, training samples its posterior",
            f"an {TINY_VAE} in {path}",
        )
    if info.guidance_conditioned:
        raise InputError(
            "the U-Net of a teacher must predict with and without the prompt",
            f"one with the guidance scale as an input (`time_cond_proj_dim`) in {path}",
        )
    return info


def _read_index(path: Path) -> dict[str, Any]:
    if not (path / INDEX_FILE).is_file():
        raise InputError(
            f"a pipeline must be a diffusers folder with `{INDEX_FILE}`",
            f"{path} ({'without it' if path.is_dir() else 'not a folder'})",
            "Save the whole pipeline with `pipeline.save_pretrained(path)`.",
        )
    index = text_to_image(read_config(path / INDEX_FILE))
    name = index.get("_class_name")
    if not isinstance(name, str) or name not in PIPELINES:
        raise InputError(
            f"the pipeline class must be {' or '.join(PIPELINES)}", f"{name!r} in {path}"
        )
    return index


def _check_components(path: Path, index: dict[str, Any], kind: PipelineKind) -> None:
    odd = [name for name in index if not re.fullmatch(r"\w+", name)]
    if odd:
        raise InputError(
            f"names of components in `{path / INDEX_FILE}` must be plain names of folders in it",
            shorten(repr(odd[0])),
        )
    for name in kind.components:
        entry = index.get(name)
        if not isinstance(entry, list) or len(entry) != 2 or None in entry:
            raise InputError(
                f"`{path / INDEX_FILE}` must name the class of `{name}`", repr(entry), SAVE_AGAIN
            )
        library, class_name = entry
        if name in MODELS:
            accepted = library == MODELS[name][0] and class_name in MODELS[name][1]
            rule = f"a {' or '.join(MODELS[name][1])} of {MODELS[name][0]}"
        elif name == "scheduler":
            accepted, rule = library == "diffusers", "a scheduler of diffusers"
        else:
            accepted = library == "transformers" and class_name in TOKENIZERS
            rule = "a CLIPTokenizer of transformers"
        if not accepted:
            raise InputError(
                f"`{name}` must be {rule}",
                f"{class_name} of {library}",
                "edgekd runs no code from a pipeline folder.",
            )
        if not (path / name).is_dir():
            raise InputError(
                f"a pipeline must have a `{name}` folder", f"none in {path}", SAVE_AGAIN
            )


def _check_named_alike(path: Path, index: dict[str, Any], component: str, found: Any) -> None:
    """A class is named in two places, of which one client reads this and another that."""
    listed = index[component][1]
    if found not in (listed, None):
        file = SCHEDULER_FILE if component == "scheduler" else "config.json"
        raise InputError(
            f"`{INDEX_FILE}` and `{component}/{file}` must name the same class",
            f"{listed} and {found} in {path}",
            SAVE_AGAIN,
        )


def _check_tokenizers(path: Path, models: dict[str, Any], kind: PipelineKind) -> int:
    """The length of their sequences."""
    lengths: dict[str, int] = {}
    for name, encoder in kind.text_pairs:
        tokenizer = load_tokenizer(path / name)
        check_tokenizer((name, encoder), tokenizer, models[encoder].config)
        lengths[name] = tokenizer.model_max_length
    check_lengths(lengths)
    return next(iter(lengths.values()))


def _check_weights(folder: Path, model: Any) -> list[Path]:
    """Compare a component's headers with its empty model; return the files that count."""
    files = find_weights(folder, weights_stem(folder.name))
    match_tensors(read_headers(files), expected_shapes(model), f"`{folder}`")
    return [folder / "config.json", *files]


def _content_key(root: Path, files: Iterable[Path]) -> str:
    rows = []
    for file in sorted(set(files)):
        stat = file.stat()
        digest = _hash_unchanged(file.resolve(), stat.st_size, stat.st_mtime_ns)
        rows.append([file.relative_to(root).as_posix(), digest])
    return hash_value(rows)


@lru_cache(maxsize=1024)
def _hash_unchanged(path: Path, size: int, mtime_ns: int) -> str:
    # Several stages of a run inspect the same teacher: gigabytes are hashed once per process.
    del size, mtime_ns
    return hash_file(path)
