"""`edgekd inspect`: size and work of every component of a pipeline, without its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekd.errors import InputError
from edgekd.student.cost import NOTHING, ComponentCost, text_encoder_cost, unet_cost, vae_cost
from edgekd.student.reference import ARCHITECTURES
from edgekd.student.resolve import full
from edgekd.student.resolve import preset as preset_arch

if TYPE_CHECKING:
    from edgekd.diffusion.validate import TeacherInfo

_FP32_BYTES = 4.0
# Tensors of the VAE's halves, by the start of their names.
_HALVES = {"vae_encoder": ("encoder.", "quant_conv."), "vae_decoder": ("decoder.", "post_quant_")}


def inspect_components(
    path: Path | None = None, arch: str | None = None, preset: str | None = None
) -> dict[str, Any]:
    """Parameters, tensors, MACs and bytes of each component.

    Args:
        path: a pipeline folder. Of the weights only the headers are read.
        arch: instead of a folder, a published architecture: `sd15`, `sd21` or `sdxl`.
        preset: replace the U-Net by this student of it; see `edgekd.student.resolve.PRESETS`.

    Returns:
        `{"components": {name: {"parameters", "tensors", "macs", "bytes"}}, "total": {...},
        "latent_size": [h, w], ...}`. The components are those of the pipeline (`text_encoder`,
        `unet`, `vae`, for SDXL `text_encoder_2`), and the two halves of the VAE apart:
        `vae_encoder` and `vae_decoder`, which `total` does not count twice. MACs are of one
        call at batch 1 and the U-Net's native latent size, half of what torch's FlopCounter
        counts. Bytes are of the weights in the precision they are stored in; of an `arch`, fp32.

    Raises:
        InputError: not exactly one of `path` and `arch`, an unknown name, or a folder that
            `edgekd.diffusion.validate.inspect_folder` refuses.
    """
    if (path is None) == (arch is None):
        raise InputError(
            "exactly one of a pipeline folder and `--arch` must be given",
            "both" if path is not None else "none",
        )
    if path is not None:
        measured = _of_folder(path)
    elif arch in ARCHITECTURES:
        measured = _of_configs(ARCHITECTURES[arch])
    else:
        raise InputError(f"`--arch` must be one of {', '.join(ARCHITECTURES)}", repr(arch))
    rows, unet, side = dict(measured.rows), measured.unet, measured.side
    if preset is not None:
        cost = unet_cost(preset_arch(preset, unet), unet, (side, side), measured.tokens)
        rows["unet"] = (cost, rows["unet"][1])
    components = {
        name: {
            "parameters": cost.parameters,
            "tensors": cost.tensors,
            "macs": cost.macs,
            "bytes": round(cost.parameters * size),
        }
        for name, (cost, size) in rows.items()
    }
    whole = [value for name, value in components.items() if name not in _HALVES]
    return {
        "source": str(path) if path is not None else arch,
        "student": preset,
        "latent_size": [side, side],
        "components": components,
        "total": {key: sum(value[key] for value in whole) for key in whole[0]},
    }


@dataclass(frozen=True)
class _Measured:
    """What is known of a pipeline.

    Attributes:
        rows: component -> its cost, and the stored bytes a parameter.
        unet: config of the U-Net.
        side: of the native latents.
        tokens: of a prompt.
    """

    rows: dict[str, tuple[ComponentCost, float]]
    unet: Mapping[str, Any]
    side: int
    tokens: int


def _of_configs(configs: Mapping[str, Mapping[str, Any]]) -> _Measured:
    """A published architecture, counted from its shapes: loads no model library."""
    unet, tokens = configs["unet"], int(configs["text_encoder"]["max_position_embeddings"])
    side = int(unet["sample_size"])
    costs = {
        name: text_encoder_cost(config, projection=name == "text_encoder_2")
        for name, config in configs.items()
        if name.startswith("text_encoder")
    }
    costs["unet"] = unet_cost(full(unet), unet, (side, side), tokens)
    encoder, decoder = vae_cost(configs["vae"], (side, side))
    costs |= {"vae": encoder + decoder, "vae_encoder": encoder, "vae_decoder": decoder}
    rows = {name: (cost, _FP32_BYTES) for name, cost in costs.items()}
    return _Measured(rows, unet, side, tokens)


def _of_folder(path: Path) -> _Measured:
    """A folder that every other verb takes too, counted by torch on models without memory."""
    from edgekd.diffusion.components import PIPELINES, read_config
    from edgekd.diffusion.validate import inspect_folder

    info = inspect_folder(path)
    rows: dict[str, tuple[ComponentCost, float]] = {}
    for name in PIPELINES[info.pipeline_class].models:
        rows |= _component_rows(info, name)
    unet = read_config(path / "unet" / "config.json")
    return _Measured(rows, unet, info.latent_size, info.text_tokens)


def _component_rows(info: TeacherInfo, name: str) -> dict[str, tuple[ComponentCost, float]]:
    from torch.utils.flop_counter import FlopCounterMode

    from edgekd.diffusion.components import empty_model, expected_shapes, weights_stem
    from edgekd.diffusion.parts import part_calls
    from edgekd.diffusion.weights import find_weights, match_tensors, read_headers, stored_bytes

    folder = info.path / name
    model = empty_model(folder)
    sizes = {key: tensor.numel() for key, tensor in model.state_dict().items()}
    headers = read_headers(find_weights(folder, weights_stem(name)))
    stored = match_tensors(headers, expected_shapes(model), f"`{folder}`")
    per_parameter = stored_bytes(stored) / sum(sizes.values())
    costs = {}
    for part, call in part_calls(name, model, info.latent_size, info.text_tokens).items():
        with FlopCounterMode(display=False) as counter:
            call.run()
        own = [size for key, size in sizes.items() if key.startswith(_HALVES.get(part, ""))]
        costs[part] = ComponentCost(sum(own), len(own), counter.get_total_flops() // 2)
    if name not in costs:
        costs = {name: sum(costs.values(), NOTHING), **costs}
    return {part: (cost, per_parameter) for part, cost in costs.items()}
