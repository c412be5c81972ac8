"""What stable-diffusion.cpp can draw with, or why it cannot.

It builds its networks from tables in its sources, not from a config: widths, depths and heads are
those of published models. Facts of its build `master-612-d7ecbe1` (the one in the Python package
cyllama 0.2.18), whose loader tests/clients/test_sdcpp.py runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from edgekd.diffusion.single_file.vocabulary import clip_tokens
from edgekd.diffusion.validate import Family
from edgekd.errors import InputError
from edgekd.student.config import to_unet_config
from edgekd.student.reference import ARCHITECTURES
from edgekd.student.resolve import preset
from edgekd.student.shape import UNetShape, read_shape

_NAMES: Mapping[Family, str] = {"sd1": "sd15", "sd2": "sd21", "sdxl": "sdxl"}
# Its name for the published U-Net that it decodes with a TAESD, whatever VAE the file has.
_SDXS = "SDXS-512"
_LATENT_SCALES: Mapping[Family, float] = {"sd1": 0.18215, "sd2": 0.18215, "sdxl": 0.13025}
_SCHEDULE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "trained_betas": None,
    "rescale_betas_zero_snr": False,
}
_PREDICTIONS = ("epsilon", "v_prediction")
# `AutoencoderTiny` as TAESD is.
_TAESD = {
    "latent_channels": 4,
    "decoder_block_out_channels": [64, 64, 64, 64],
    "num_decoder_blocks": [3, 3, 3, 1],
    "act_fn": "relu",
    "upsample_fn": "nearest",
    "scaling_factor": 1.0,
}
_VAE_DEFAULTS = {
    "mid_block_add_attention": True,
    "use_quant_conv": True,
    "use_post_quant_conv": True,
}


@cache
def variants(family: Family) -> dict[str, UNetShape]:
    """The U-Nets of a family that it builds, by its own names for them."""
    config = ARCHITECTURES[_NAMES[family]]["unet"]
    whole = read_shape(config)
    if family == "sdxl":
        ssd_1b = read_shape(to_unet_config(preset("ssd-1b", config), config))
        vega = replace(ssd_1b, down=((0, 0), (1, 1), (2, 2)), up=((0,) * 3, (1,) * 3, (2,) * 3))
        return {"SDXL": whole, "SSD-1B": ssd_1b, "Segmind Vega": vega}
    tiny = read_shape(to_unet_config(preset("bk-sdm-tiny", config), config))
    found = {family.upper(): whole, "BK-SDM tiny": tiny}
    if family == "sd1":
        found[_SDXS] = replace(tiny, down=((0,), *tiny.down[1:]), up=((0, 0), *tiny.up[1:]))
    return found


def check_unet(config: Mapping[str, Any], family: Family) -> str:
    """Which of the U-Nets this is.

    Raises:
        InputError: none of them.
    """
    shape = read_shape(config)
    for name, known in variants(family).items():
        if _essence(shape) == _essence(known):
            return name
    said = f"widths {list(shape.widths)}, transformers {[list(d) for d in shape.down]} down and "
    said += f"{[list(u) for u in shape.up]} up, mid {shape.mid}, heads {list(shape.heads)}"
    raise InputError(
        f"the U-Net must be one that stable-diffusion.cpp builds: {', '.join(variants(family))}",
        said,
        "Of the presets, `full` and "
        + ("`ssd-1b`" if family == "sdxl" else "`bk-sdm-tiny`")
        + " of a published teacher are; `onnx` takes any.",
    )


def _essence(shape: UNetShape) -> UNetShape:
    """A shape without what no layer reads, and without the guidance that is written into it."""
    used = [shape.has_attention(s) for s in range(shape.stages)]
    used[-1] = used[-1] or bool(shape.mid)

    def where_used(values: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(value if use else 0 for value, use in zip(values, used, strict=True))

    heads, texts = where_used(shape.heads), where_used(shape.cross_dims)
    return replace(shape, heads=heads, cross_dims=texts, time_cond_dim=None)


def check_text(name: str, config: Mapping[str, Any], family: Family) -> None:
    """A text encoder of the published size."""
    wanted = ARCHITECTURES[_NAMES[family]][name]
    # A projection that no pipeline of Stable Diffusion 1 and 2 reads is not written.
    fields = [key for key in wanted if key != "projection_dim" or name == "text_encoder_2"]
    _same(f"the {name} must be that of {family.upper()}", {k: wanted[k] for k in fields}, config)


def check_tokenizer(name: str, vocabulary: Mapping[str, int]) -> None:
    """CLIP's vocabulary, which stable-diffusion.cpp brings itself."""
    tokens = clip_tokens()
    if dict(vocabulary) != {token: index for index, token in enumerate(tokens)}:
        raise InputError(
            f"the {name} must have CLIP's vocabulary, stable-diffusion.cpp has no other",
            f"{len(vocabulary)} tokens",
        )


def check_vae(config: Mapping[str, Any], family: Family, unet: str) -> None:
    """A VAE of the published size, or one as TAESD.

    Args:
        unet: see `check_unet`.
    """
    if config.get("_class_name") == "AutoencoderTiny":
        _same("an AutoencoderTiny must be as TAESD", _TAESD, config)
        return
    if unet == _SDXS:
        raise InputError(
            f"stable-diffusion.cpp takes the U-Net for {_SDXS}, whose VAE must be an "
            "AutoencoderTiny as TAESD",
            repr(config.get("_class_name", "AutoencoderKL")),
        )
    wanted = {**ARCHITECTURES[_NAMES[family]]["vae"], **_VAE_DEFAULTS}
    wanted["scaling_factor"] = _LATENT_SCALES[family]
    _same("the VAE must be the published one, stable-diffusion.cpp builds it", wanted, config)


def check_scheduler(config: Mapping[str, Any]) -> None:
    """The noise schedule of Stable Diffusion, on noise or velocity."""
    _same("the noise schedule must be Stable Diffusion's", _SCHEDULE, config)
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in _PREDICTIONS:
        raise InputError(
            f"the prediction type must be one of {', '.join(_PREDICTIONS)}", prediction
        )


def _same(rule: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Refuse the first field that differs; one that is not said is as wanted."""
    for key, value in wanted.items():
        said = found.get(key, value)
        if (list(said) if isinstance(said, tuple) else said) != value:
            raise InputError(f"{rule}: `{key}` {value}", repr(said))
