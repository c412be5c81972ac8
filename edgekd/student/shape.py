"""What a U-Net's config says, in one normal form.

`UNet2DConditionModel` takes most of its settings as one number or one per
stage, and names some of them misleadingly (`attention_head_dim` is the number
of heads). `UNetShape` holds one value per stage, outermost stage first, for
the down and the up path alike, so that the rest of this package never looks
at the config's spellings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from edgekd.errors import InputError
from edgekd.schema import validate

Size = Annotated[int, Field(strict=True, ge=1)]
Count = Annotated[int, Field(strict=True, ge=0)]
PerStage = Count | tuple[Count, ...]
Depths = Count | tuple[PerStage, ...]
_DOWN: Final = "CrossAttnDownBlock2D"
_UP: Final = "CrossAttnUpBlock2D"
_MID: Final = "UNetMidBlock2DCrossAttn"
# One residual block and nothing else, as in Segmind's SSD-1B (Gupta et al., arXiv 2401.02677).
PLAIN_MID: Final = "UNetMidBlock2D"


class UNetConfig(BaseModel):
    """Keys of a `UNet2DConditionModel` that decide its layout, with diffusers' defaults.

    The last ones change it in ways that no Stable Diffusion uses.
    """

    model_config = ConfigDict(frozen=True)

    sample_size: Size | tuple[Size, Size] | None = None
    in_channels: Size = 4
    out_channels: Size = 4
    block_out_channels: Annotated[tuple[Size, ...], Field(min_length=1)] = (320, 640, 1280, 1280)
    down_block_types: tuple[Literal["DownBlock2D", "CrossAttnDownBlock2D"], ...] = (
        _DOWN, _DOWN, _DOWN, "DownBlock2D",
    )  # fmt: skip
    mid_block_type: Literal["UNetMidBlock2DCrossAttn", "UNetMidBlock2D"] | None = _MID
    up_block_types: tuple[Literal["UpBlock2D", "CrossAttnUpBlock2D"], ...] = (
        "UpBlock2D", _UP, _UP, _UP,
    )  # fmt: skip
    layers_per_block: PerStage = 2
    norm_num_groups: Size = 32
    cross_attention_dim: PerStage = 1280
    transformer_layers_per_block: Depths = 1
    reverse_transformer_layers_per_block: tuple[PerStage, ...] | None = None
    attention_head_dim: PerStage = 8
    use_linear_projection: StrictBool = False
    time_embedding_dim: Size | None = None
    time_cond_proj_dim: Size | None = None
    conv_in_kernel: Size = 3
    conv_out_kernel: Size = 3
    addition_embed_type: Literal["text_time"] | None = None
    projection_class_embeddings_input_dim: Size | None = None

    only_cross_attention: Literal[False] | tuple[Literal[False], ...] = False
    mid_block_only_cross_attention: Literal[False] | None = None
    num_attention_heads: None = None
    dual_cross_attention: Literal[False] = False
    class_embed_type: None = None
    num_class_embeds: None = None
    encoder_hid_dim: None = None
    encoder_hid_dim_type: None = None
    resnet_time_scale_shift: Literal["default"] = "default"
    time_embedding_type: Literal["positional"] = "positional"
    attention_type: Literal["default"] = "default"
    cross_attention_norm: None = None
    class_embeddings_concat: Literal[False] = False


def read_config(config: Mapping[str, Any]) -> UNetConfig:
    """A `UNet2DConditionModel` config, held to the layouts of Stable Diffusion 1.x, 2.x and XL.

    Raises:
        InputError: it is none of these.
    """
    return validate(
        UNetConfig, dict(config), "the U-Net of a teacher of Stable Diffusion 1.x, 2.x or XL"
    )


@dataclass(frozen=True)
class UNetShape:
    """A U-Net's layout. Tuples over stages start at the outermost (widest image) stage.

    Attributes:
        widths: channels per stage.
        heads: attention heads per stage; the mid block has those of the last stage.
        down: per stage and down pair, the number of transformer blocks; 0: no attention.
        up: the same for the up path, which has one pair more per stage.
        mid: transformer blocks of the mid block; 0: it is one residual block that does not attend;
            None: there is none.
        cross_dims: width of the text embeddings that each stage attends to.
        groups: GroupNorm groups.
        time_dim: width of the time embedding.
        time_cond_dim: input of `time_embedding.cond_proj`, or None.
        added_dim: input of `add_embedding`, or None.
    """

    widths: tuple[int, ...]
    heads: tuple[int, ...]
    down: tuple[tuple[int, ...], ...]
    up: tuple[tuple[int, ...], ...]
    mid: int | None
    cross_dims: tuple[int, ...]
    groups: int
    linear_projection: bool
    in_channels: int
    out_channels: int
    conv_in_kernel: int
    conv_out_kernel: int
    time_dim: int
    time_cond_dim: int | None
    added_dim: int | None

    @property
    def stages(self) -> int:
        return len(self.widths)

    def head_size(self, stage: int) -> int:
        """Channels per attention head of a stage."""
        return self.widths[stage] // self.heads[stage]

    def has_attention(self, stage: int) -> bool:
        """Whether a stage's down or up block attends; the mid block is not counted."""
        return any(self.down[stage]) or any(self.up[stage])


def read_shape(config: Mapping[str, Any]) -> UNetShape:
    """Normalise a `UNet2DConditionModel` config.

    Raises:
        InputError: the config is inconsistent, or is not of a Stable Diffusion layout.
    """
    unet = read_config(config)
    n = len(unet.block_out_channels)
    for key in ("down_block_types", "up_block_types"):
        if len(getattr(unet, key)) != n:
            raise InputError(f"`{key}` must name {n} blocks", repr(getattr(unet, key)))
    layers = _per_stage(unet, "layers_per_block")
    depths = _per_stage(unet, "transformer_layers_per_block")
    up_depths = depths
    if unet.reverse_transformer_layers_per_block is not None:
        up_depths = _per_stage(unet, "reverse_transformer_layers_per_block")[::-1]
    down, up = [], []
    for s, pairs in enumerate(layers):
        attends = unet.down_block_types[s] == _DOWN, unet.up_block_types[n - 1 - s] == _UP
        down.append(_pair_depths(depths[s], pairs, attends[0]))
        up.append(_pair_depths(up_depths[s], pairs + 1, attends[1]))
    added = unet.projection_class_embeddings_input_dim
    if unet.addition_embed_type is not None and added is None:
        raise InputError(
            "`projection_class_embeddings_input_dim` must be given with `addition_embed_type`",
            "null",
        )
    # The stock mid block has one transformer and reads entry 0 of a per-pair list.
    innermost = depths[-1] if isinstance(depths[-1], int) else depths[-1][0]
    shape = UNetShape(
        widths=unet.block_out_channels,
        heads=_per_stage(unet, "attention_head_dim"),
        down=tuple(down),
        up=tuple(up),
        mid={None: None, PLAIN_MID: 0}.get(unet.mid_block_type, innermost),
        cross_dims=_per_stage(unet, "cross_attention_dim"),
        groups=unet.norm_num_groups,
        linear_projection=unet.use_linear_projection,
        in_channels=unet.in_channels,
        out_channels=unet.out_channels,
        conv_in_kernel=unet.conv_in_kernel,
        conv_out_kernel=unet.conv_out_kernel,
        time_dim=unet.time_embedding_dim or 4 * unet.block_out_channels[0],
        time_cond_dim=unet.time_cond_proj_dim,
        added_dim=added if unet.addition_embed_type is not None else None,
    )
    _check(shape)
    return shape


def _check(shape: UNetShape) -> None:
    if any(width % shape.groups for width in shape.widths):
        raise InputError(
            "every stage's width must divide by `norm_num_groups`",
            f"widths {list(shape.widths)}, {shape.groups} groups",
        )
    for s in range(shape.stages):
        used = shape.has_attention(s) or (s == shape.stages - 1 and bool(shape.mid))
        if used and (shape.heads[s] < 1 or shape.widths[s] % shape.heads[s]):
            raise InputError(
                "the width of a stage with attention must divide by its number of heads",
                f"width {shape.widths[s]}, {shape.heads[s]} heads in stage {s}",
            )


def _per_stage(unet: UNetConfig, key: str) -> tuple[Any, ...]:
    """The values of all stages, where one number may stand for them."""
    value, n = getattr(unet, key), len(unet.block_out_channels)
    values = (value,) * n if isinstance(value, int) else value
    if len(values) != n:
        raise InputError(f"`{key}` must have one entry for each of {n} stages", repr(value))
    return tuple(values)


def _pair_depths(depth: int | tuple[int, ...], pairs: int, attends: bool) -> tuple[int, ...]:
    if not attends:
        return (0,) * pairs
    depths = (depth,) * pairs if isinstance(depth, int) else depth[:pairs]
    if len(depths) != pairs or not all(depths):
        raise InputError(
            f"`transformer_layers_per_block` must give {pairs} positive depths", repr(depth)
        )
    return depths
