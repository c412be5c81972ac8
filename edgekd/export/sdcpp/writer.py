"""Write a pipeline for stable-diffusion.cpp, and prove the file by reading it back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from edgekd import __version__
from edgekd.diffusion.components import load_tokenizer
from edgekd.diffusion.load import load_model, load_pipeline
from edgekd.diffusion.single_file.checkpoint import TEXT, UNET, V_MARK, VAE, read_checkpoint
from edgekd.diffusion.single_file.importer import ImportChoices, import_checkpoint
from edgekd.diffusion.validate import TeacherInfo, inspect_folder
from edgekd.errors import GateError, InputError
from edgekd.export.formats import FormatRequest, Written
from edgekd.export.lora import check_loras, fuse_loras
from edgekd.export.manifest import source_hash, trace_origin
from edgekd.export.sdcpp.expressible import (
    check_scheduler,
    check_text,
    check_tokenizer,
    check_unet,
    check_vae,
)
from edgekd.export.sdcpp.fixed_guidance import fix_guidance
from edgekd.export.sdcpp.layout import State, clip_state, open_clip_state, unet_name, vae_state
from edgekd.file_record import finish
from edgekd.files import code_key, hash_value, writing
from edgekd.folders import atomic_folder
from edgekd.model_card import Card, licence_fields, model_name, write_card
from edgekd.progress import Progress

MODEL, TAESD = "model.safetensors", "taesd.safetensors"
_DTYPES = {"fp16": torch.float16, "fp32": torch.float32}
# DDIM without noise is Euler's method.
_METHODS = {
    "DDIMScheduler": "euler",
    "DPMSolverMultistepScheduler": "dpm++2m",
    "EulerAncestralDiscreteScheduler": "euler_a",
    "EulerDiscreteScheduler": "euler",
    "HeunDiscreteScheduler": "heun",
    "LCMScheduler": "lcm",
    "TCDScheduler": "tcd",
}


class SdCpp:
    """See `edgekd.export.formats.FileFormat`."""

    name = "sdcpp"
    precisions = tuple(_DTYPES)

    def write(self, request: FormatRequest, progress: Progress) -> Written:
        if request.precision not in _DTYPES:
            raise InputError(
                f"`--precision` must be one of {', '.join(_DTYPES)}", repr(request.precision)
            )
        info = inspect_folder(request.pipeline)
        check_loras(request.loras)
        facts = check_expressible(info)
        origin = trace_origin(request.pipeline, request.loras, info.pipeline_class)
        key = hash_value([origin.hash, request.precision, str(request.generation), code_key()])
        with writing(request.out), atomic_folder(request.out) as folder:
            source = _fused(request, folder / ".work", progress)
            facts = (*facts, *_write(info, source, request, folder))
            progress.info("  reading the file back")
            prove(folder / MODEL, source, request)
            shutil.rmtree(folder / ".work", ignore_errors=True)
            write_card(folder, _card(request, info, facts))
            finish(folder, key, runtime=self.name, precision=request.precision)
        files = [path for path in (request.out / MODEL, request.out / TAESD) if path.is_file()]
        sizes = {path.name: path.stat().st_size for path in files}
        return Written(request.out, request.precision, sizes, facts)


def check_expressible(info: TeacherInfo) -> tuple[str, ...]:
    """What stable-diffusion.cpp takes a pipeline for.

    Raises:
        InputError: it builds no such network.
    """
    outline, family = load_pipeline(info.path, only=()), info.family
    name = check_unet(dict(outline.unet.config), family)
    check_vae({"_class_name": type(outline.vae).__name__, **outline.vae.config}, family, name)
    for text, tokenizer in (("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")):
        model = getattr(outline, text, None)
        if model is not None:
            check_text(text, model.config.to_dict(), family)
            check_tokenizer(tokenizer, load_tokenizer(info.path / tokenizer).get_vocab())
    check_scheduler(outline.scheduler.config)
    return (f"stable-diffusion.cpp takes the U-Net for {name}",)


def _fused(request: FormatRequest, work: Path, progress: Progress) -> Path:
    """The pipeline folder to write: the source, or a copy with the LoRAs in it."""
    if not request.loras:
        return request.pipeline
    for lora in request.loras:
        progress.info(f"  fusing {lora.path.name}, weight {lora.weight:g}")
    fuse_loras(load_pipeline(request.pipeline), request.loras, work)
    return work


def _write(info: TeacherInfo, source: Path, request: FormatRequest, folder: Path) -> Iterator[str]:
    """Write the files; yields what there is to say."""
    dtype = _DTYPES[request.precision]
    state: State = {}
    for prefix, part in original_layout(info, source, request.generation.guidance_scale):
        state |= {f"{prefix}{name}": _rounded(value, dtype, name) for name, value in part.items()}
    size = f"{info.resolution}x{info.resolution}"
    metadata = {
        "format": "pt",
        "modelspec.prediction_type": info.prediction_type,
        "modelspec.resolution": size,
    }
    if info.prediction_type == "v_prediction":
        if info.family == "sdxl":  # the only one whose loader looks for it
            state[V_MARK] = torch.zeros(1)
        yield "it predicts velocity: pass `--prediction v`"
    save_file(state, folder / MODEL, metadata)
    if info.guidance_conditioned:
        scale = request.generation.guidance_scale
        yield f"guidance {scale:g} is part of the weights: draw with `--cfg-scale 1`"
    if info.tiny_vae:
        tiny = load_model(source, "vae").state_dict()
        save_file({k: _rounded(x, dtype, k) for k, x in tiny.items()}, folder / TAESD, metadata)
        yield f"its VAE is the file {TAESD}: pass it as `--taesd`"


def original_layout(
    info: TeacherInfo, source: Path, guidance_scale: float
) -> Iterator[tuple[str, State]]:
    """Each part's prefix and tensors, in float32; of an `AutoencoderTiny`, nothing.

    Args:
        guidance_scale: of a guidance-distilled U-Net.
    """
    unet = load_model(source, "unet")
    config, state = unet.config, fix_guidance(unet.state_dict(), guidance_scale)
    attends = tuple(kind.startswith("CrossAttn") for kind in config.up_block_types)
    layers = config.layers_per_block
    if not isinstance(layers, int):
        (layers,) = set(layers)
    yield UNET, {unet_name(name, layers, attends): value for name, value in state.items()}
    del unet, state
    if not info.tiny_vae:
        vae = load_model(source, "vae")
        yield VAE, vae_state(vae.state_dict(), len(vae.config.block_out_channels))
    prefixes = TEXT[info.family]
    for prefix, name in zip(prefixes, ("text_encoder", "text_encoder_2"), strict=False):
        text = load_model(source, name).state_dict()
        yield prefix, (clip_state if prefix.endswith("transformer.") else open_clip_state)(text)


def _rounded(value: torch.Tensor, dtype: torch.dtype, name: str) -> torch.Tensor:
    """Contiguous, in memory of its own, and finite."""
    rounded = value.to(dtype).contiguous().clone()
    if not torch.isfinite(rounded).all():
        raise InputError(
            "weights must be in fp16's range", f"`{name}` up to {value.abs().max():.3g}",
            "Export `--precision fp32`.",
        )  # fmt: skip
    return rounded


def prove(file: Path, source: Path, request: FormatRequest) -> None:
    """Read written files back, as a stranger would, and compare all tensors with the pipeline's.

    Raises:
        GateError: one is missing, or another.
    """
    dtype, again = _DTYPES[request.precision], file.parent / ".work" / "again"
    vae = source / "vae" if (file.parent / TAESD).is_file() else None
    import_checkpoint(read_checkpoint(file), again, ImportChoices(vae=vae))
    for folder in sorted(path for path in again.iterdir() if (path / "config.json").is_file()):
        wanted: Mapping[str, Any] = load_model(source, folder.name).state_dict()
        if folder.name == "unet":
            wanted = fix_guidance(dict(wanted), request.generation.guidance_scale)
        if folder.name == "vae" and vae is not None:
            found = {name: value.float() for name, value in load_file(file.parent / TAESD).items()}
        else:
            found = load_model(again, folder.name).state_dict()
        for name in sorted(wanted.keys() | found.keys()):
            if name not in wanted or name not in found:
                raise GateError(f"the {folder.name} must read back as it is", f"no `{name}`")
            if not torch.equal(found[name], wanted[name].to(dtype).float()):
                raise GateError(f"the {folder.name} must read back as it is", f"another `{name}`")


def command(info: TeacherInfo, request: FormatRequest, scheduler: Any) -> str:
    """A command line of stable-diffusion.cpp that draws as the pipeline's maker recommends."""
    generation, side = request.generation, info.resolution
    scale = 1.0 if info.guidance_conditioned else generation.guidance_scale
    words = [f'sd-cli -m {MODEL} -p "PROMPT" -o picture.png -W {side} -H {side}']
    words.append(f"--steps {generation.steps} --cfg-scale {scale:g}")
    words.append(f"--sampling-method {_method(scheduler)}")
    words += [f"--scheduler {name}"] if (name := _spacing(scheduler)) else []
    words.append("--rng cpu --seed 0")
    words += [f"--taesd {TAESD}"] if info.tiny_vae else []
    words += ["--prediction v"] if info.prediction_type == "v_prediction" else []
    return " ".join(words)


def _method(scheduler: Any) -> str:
    """Its `--sampling-method` for a scheduler of diffusers."""
    name = type(scheduler).__name__
    if name == "DPMSolverMultistepScheduler" and scheduler.config.solver_order == 1:
        name = "DDIMScheduler"  # the same method (Lu et al. 2022, section 4.1)
    return _METHODS.get(name, "euler")


def _spacing(scheduler: Any) -> str | None:
    """Its `--scheduler` for the noise levels of a scheduler of diffusers; None: its own choice."""
    config = scheduler.config
    if type(scheduler).__name__ in ("LCMScheduler", "TCDScheduler"):
        return None  # the timesteps of their training
    for name in ("karras", "exponential"):
        if config.get(f"use_{name}_sigmas"):
            return name
    return "simple" if config.get("timestep_spacing") == "trailing" else None


def _card(request: FormatRequest, info: TeacherInfo, facts: tuple[str, ...]) -> Card:
    name, licence = model_name(request.pipeline), licence_fields(request.pipeline)
    licence.pop("license_link", None)  # a file of the source, which is not here
    scheduler = load_pipeline(info.path, only=()).scheduler
    said = "".join(f"- {fact}\n" for fact in facts)
    return Card(
        name=f"{name}-sdcpp-{request.precision}",
        base_model=name,
        text=f"`{name}` for stable-diffusion.cpp in {request.precision}, written by edgekd "
        f"{__version__}: one file in the original layout, read back and compared tensor by "
        f"tensor.\n\n{said}\n```\n{command(info, request, scheduler)}\n```\n\n"
        "With `--rng cpu` a seed is the noise that it is in edgekd, and in diffusers on a CPU.",
        licence=licence,
        tags=("stable-diffusion.cpp", "stable-diffusion"),
        made={"source": source_hash(request.pipeline)},
    )
