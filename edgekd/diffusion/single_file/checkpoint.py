"""What a checkpoint file is: its family by the names of its tensors, or why it is none of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from edgekd.diffusion.validate import Family
from edgekd.diffusion.weights import StoredTensor, read_all_headers
from edgekd.errors import InputError

UNET = "model.diffusion_model."
EMA = "model_ema."
VAE = "first_stage_model."
# Where each family keeps its text encoders: CLIP in transformers' layout, or OpenCLIP's own.
TEXT: Mapping[Family, tuple[str, ...]] = {
    "sd1": ("cond_stage_model.transformer.",),
    "sd2": ("cond_stage_model.model.",),
    "sdxl": ("conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."),
}
_FIRST = f"{UNET}input_blocks.0.0.weight"
# Marks that some fine-tunes carry as tensors of their own.
V_MARK, ZERO_SNR_MARK = "v_pred", "ztsnr"
# Buffers that each loader computes for itself.
_DERIVED = (
    "alphas_cumprod",
    "betas",
    "denoiser.sigmas",
    "log_one_minus_alphas_cumprod",
    "logvar",
    "model_ema.decay",
    "model_ema.num_updates",
    "posterior_",
    "scale_factor",
    "sqrt_",
    V_MARK,
    ZERO_SNR_MARK,
)
# The first fragment that is in the name of a tensor says what the file is.
_OTHERS = {
    "lora_": "a LoRA",
    ".lora": "a LoRA",
    "hada_w1": "a LoHa",
    "lokr_w": "a LoKr",
    "joint_blocks.": "Stable Diffusion 3",
    "joint_transformer_blocks.": "Stable Diffusion 3",
    "transformer_blocks.0.attn.add_k_proj": "Stable Diffusion 3 or Flux",
    "double_blocks.": "Flux",
    "double_stream_blocks.": "Flux",
    "control_model.": "a ControlNet",
    "controlnet_": "a ControlNet",
    "input_hint_block.": "a ControlNet",
    "motion_modules.": "AnimateDiff",
    "edm_mean": "Playground v2.5",
    "edm_vpred": "CosXL",
    "emb_params": "a textual inversion",
    "down_blocks.0.resnets": "one component of a diffusers folder",
    "text_model.encoder.layers.0": "a text encoder",
}
_WAY_OUT = {
    "a LoRA": "Pass it to `edgekd export` as --lora.",
    "one component of a diffusers folder": "Pass the whole folder.",
}
# Inputs of a U-Net that is conditioned by more than text.
_OTHER_INPUTS = {5: "depth to image", 7: "upscaling", 8: "editing pictures", 9: "inpainting"}


@dataclass(frozen=True)
class CheckpointFile:
    """A checkpoint of a family that edgekd takes.

    Attributes:
        tensors: name -> what the header says of it.
        metadata: the header's texts, such as `modelspec.prediction_type`.
    """

    path: Path
    family: Family
    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]

    def part(self, prefix: str) -> dict[str, StoredTensor]:
        """Tensors under a prefix, by the rest of their names."""
        return {
            name.removeprefix(prefix): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(prefix)
        }

    @property
    def ema(self) -> dict[str, StoredTensor] | None:
        """The averaged U-Net, by the names of the trained one; None: it is not there as a whole.

        The trainer of Stable Diffusion drops the dots from an average's names.
        """
        names = {f"{EMA}diffusion_model{name.replace('.', '')}": name for name in self.part(UNET)}
        found = {new: self.tensors[old] for old, new in names.items() if old in self.tensors}
        return found if found and len(found) == len(names) else None

    def unused(self) -> list[str]:
        """Tensors that nothing of a pipeline is made of, other than derived buffers."""
        known = (UNET, EMA, VAE, *TEXT[self.family], *_DERIVED)
        return sorted(name for name in self.tensors if not name.startswith(known))


def read_checkpoint(path: Path) -> CheckpointFile:
    """Read a file's header and find its family.

    Raises:
        InputError: no whole safetensors file, or one of something else.
    """
    tensors = read_all_headers([path])
    with safe_open(str(path), framework="pt") as handle:
        metadata = dict(handle.metadata() or {})
    _refuse_others(path, tensors)
    family = _family(tensors)
    if family is None:
        raise _no_checkpoint(path, "text encoders of none")
    _check_inputs(path, tensors)
    return CheckpointFile(path, family, tensors, metadata)


def _family(names: Iterable[str]) -> Family | None:
    known = tuple(names)
    for family, prefixes in TEXT.items():
        if all(any(name.startswith(prefix) for name in known) for prefix in prefixes):
            return family
    return None


def _refuse_others(path: Path, tensors: Mapping[str, StoredTensor]) -> None:
    for fragment, kind in _OTHERS.items():
        # The text encoders of a checkpoint are those of our families too.
        inside = any(fragment in name for name in tensors)
        if inside and not (fragment.startswith("text_model") and _FIRST in tensors):
            way_out = _WAY_OUT.get(kind, "")
            raise _no_checkpoint(path, kind, way_out)
    if _FIRST in tensors:
        if any(name.startswith("conditioner.embedders.0.model.") for name in tensors):
            raise _no_checkpoint(path, "the refiner of Stable Diffusion XL")
        return
    if any(name.removeprefix(VAE).startswith("decoder.conv_in") for name in tensors):
        raise _no_checkpoint(path, "a VAE alone", "Pass the checkpoint, and this file as --vae.")
    first = next(iter(tensors), "no tensor at all")
    raise _no_checkpoint(path, f"something else (`{first}`)")


def _check_inputs(path: Path, tensors: Mapping[str, StoredTensor]) -> None:
    shape = tensors[_FIRST].shape
    channels = shape[1] if len(shape) == 4 else 0
    if channels in _OTHER_INPUTS:
        raise _no_checkpoint(path, f"a model for {_OTHER_INPUTS[channels]}")
    labelled = any(name.startswith(f"{UNET}label_emb.") for name in tensors)
    if labelled and not any(name.startswith("conditioner.") for name in tensors):
        raise _no_checkpoint(path, "a model that is conditioned by images (unCLIP)")


def _no_checkpoint(path: Path, found: str, way_out: str = "") -> InputError:
    return InputError(
        "a single file must hold all of a Stable Diffusion 1, 2 or XL model for text to image",
        f"{found} in {path.name}",
        *([way_out] if way_out else []),
    )


def shape_of(tensors: Mapping[str, Any], name: str, dimensions: int) -> tuple[int, ...]:
    """Shape of a tensor from which a config is read.

    Raises:
        InputError: it is not there, or has another number of dimensions.
    """
    tensor = tensors.get(name)
    if tensor is None or len(tensor.shape) != dimensions:
        found = "none" if tensor is None else str(list(tensor.shape))
        raise InputError(f"a checkpoint must have `{name}` with {dimensions} dimensions", found)
    return tuple(int(side) for side in tensor.shape)
