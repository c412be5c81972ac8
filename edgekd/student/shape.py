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
from typing import Any

from edgekd.errors import InputError

_DOWN_BLOCKS = {"DownBlock2D": False, "CrossAttnDownBlock2D": True}
_UP_BLOCKS = {"UpBlock2D": False, "CrossAttnUpBlock2D": True}
_MID_BLOCK = "UNetMidBlock2DCrossAttn"

# Defaults of `UNet2DConditionModel` for the keys read here: old configs leave keys out.
DEFAULTS: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "mid_block_type": _MID_BLOCK,
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "cross_attention_dim": 1280,
    "transformer_layers_per_block": 1,
    "reverse_transformer_layers_per_block": None,
    "attention_head_dim": 8,
    "use_linear_projection": False,
    "time_embedding_dim": None,
    "time_cond_proj_dim": None,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "addition_embed_type": None,
    "projection_class_embeddings_input_dim": None,
}
# Keys that change the layout in ways no Stable Diffusion uses, with their accepted values.
_FIXED: dict[str, tuple[Any, ...]] = {
    "only_cross_attention": (False,),
    "mid_block_only_cross_attention": (None, False),
    "num_attention_heads": (None,),
    "dual_cross_attention": (False,),
    "class_embed_type": (None,),
    "num_class_embeds": (None,),
    "encoder_hid_dim": (None,),
    "encoder_hid_dim_type": (None,),
    "addition_embed_type": (None, "text_time"),
    "resnet_time_scale_shift": ("default",),
    "time_embedding_type": ("positional",),
    "attention_type": ("default",),
    "cross_attention_norm": (None,),
    "class_embeddings_concat": (False,),
}


_SIZES = ("in_channels", "out_channels", "norm_num_groups", "conv_in_kernel", "conv_out_kernel")
_OPTIONAL_SIZES = (
    "time_embedding_dim", "time_cond_proj_dim", "projection_class_embeddings_input_dim"
)  # fmt: skip


@dataclass(frozen=True)
class UNetShape:
    """A U-Net's layout. Tuples over stages start at the outermost (widest image) stage.

    Attributes:
        widths: channels per stage.
        heads: attention heads per stage; the mid block has those of the last stage.
        down: per stage and down pair, the number of transformer blocks; 0: no attention.
        up: the same for the up path, which has one pair more per stage.
        mid: transformer blocks of the mid block, or None without one.
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
    for key, accepted in _FIXED.items():
        value = config.get(key, accepted[0])
        values = value if isinstance(value, list | tuple) else [value]
        if not all(item in accepted for item in values):
            raise InputError(
                f"the teacher's U-Net must have `{key}` {' or '.join(map(repr, accepted))}",
                repr(value),
                "edgekd reads the layouts of Stable Diffusion 1.x, 2.x and XL.",
            )
    get = {key: config.get(key, default) for key, default in DEFAULTS.items()}
    widths = _integers(get["block_out_channels"], "block_out_channels")
    n = len(widths)
    down_attention = _attention(get["down_block_types"], _DOWN_BLOCKS, "down_block_types", n)
    up_attention = _attention(get["up_block_types"], _UP_BLOCKS, "up_block_types", n)[::-1]
    layers = _per_stage(get["layers_per_block"], n, "layers_per_block")
    depth = get["transformer_layers_per_block"]
    depths = [depth] * n if isinstance(depth, int) else list(depth)
    reverse = get["reverse_transformer_layers_per_block"]
    up_depths = depths if reverse is None else list(reverse)[::-1]
    if len(depths) != n or len(up_depths) != n:
        raise InputError(
            f"`transformer_layers_per_block` must have one entry for each of {n} stages",
            f"{depth!r}",
        )
    down, up = [], []
    for s in range(n):
        down.append(_pair_depths(depths[s], layers[s], down_attention[s]))
        up.append(_pair_depths(up_depths[s], layers[s] + 1, up_attention[s]))
    heads = _per_stage(get["attention_head_dim"], n, "attention_head_dim")
    for key in _SIZES:
        if not is_size(get[key]):
            raise InputError(f"`{key}` must be a positive integer", repr(get[key]))
    for key in _OPTIONAL_SIZES:
        if get[key] is not None and not is_size(get[key]):
            raise InputError(f"`{key}` must be a positive integer or null", repr(get[key]))
    added = get["addition_embed_type"] is not None
    if added and get["projection_class_embeddings_input_dim"] is None:
        raise InputError(
            "`projection_class_embeddings_input_dim` must be given with `addition_embed_type`",
            "null",
        )
    shape = UNetShape(
        widths=widths,
        heads=heads,
        down=tuple(down),
        up=tuple(up),
        mid=_mid_depth(get["mid_block_type"], depths[-1]),
        cross_dims=_per_stage(get["cross_attention_dim"], n, "cross_attention_dim"),
        groups=get["norm_num_groups"],
        linear_projection=bool(get["use_linear_projection"]),
        in_channels=get["in_channels"],
        out_channels=get["out_channels"],
        conv_in_kernel=get["conv_in_kernel"],
        conv_out_kernel=get["conv_out_kernel"],
        time_dim=get["time_embedding_dim"] or 4 * widths[0],
        time_cond_dim=get["time_cond_proj_dim"],
        added_dim=get["projection_class_embeddings_input_dim"] if added else None,
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
        used = shape.has_attention(s) or (s == shape.stages - 1 and shape.mid is not None)
        if used and (shape.heads[s] < 1 or shape.widths[s] % shape.heads[s]):
            raise InputError(
                "the width of a stage with attention must divide by its number of heads",
                f"width {shape.widths[s]}, {shape.heads[s]} heads in stage {s}",
            )


def _integers(value: Any, key: str) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not value or not all(is_size(v) for v in value):
        raise InputError(f"`{key}` must be a list of positive integers", repr(value))
    return tuple(value)


def is_size(value: Any) -> bool:
    """Whether a config value is a positive integer."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _per_stage(value: Any, n: int, key: str) -> tuple[int, ...]:
    values = (value,) * n if isinstance(value, int) else tuple(value or ())
    good = all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in values)
    if len(values) != n or not good:
        raise InputError(f"`{key}` must be one integer, or one for each of {n} stages", repr(value))
    return values


def _attention(value: Any, known: dict[str, bool], key: str, n: int) -> list[bool]:
    types = list(value)
    unknown = [name for name in types if name not in known]
    if unknown or len(types) != n:
        raise InputError(
            f"`{key}` must name {n} blocks out of {', '.join(known)}", ", ".join(map(str, types))
        )
    return [known[name] for name in types]


def _pair_depths(depth: Any, pairs: int, attention: bool) -> tuple[int, ...]:
    if not attention:
        return (0,) * pairs
    depths = (depth,) * pairs if isinstance(depth, int) else tuple(depth)[:pairs]
    if len(depths) != pairs or not all(is_size(d) for d in depths):
        raise InputError(
            f"`transformer_layers_per_block` must give {pairs} positive depths", repr(depth)
        )
    return depths


def _mid_depth(mid_block_type: Any, depth: Any) -> int | None:
    if mid_block_type is None:
        return None
    if mid_block_type != _MID_BLOCK:
        raise InputError(f"`mid_block_type` must be {_MID_BLOCK} or null", repr(mid_block_type))
    # The stock mid block has one transformer and reads entry 0 of a per-pair list.
    value = depth if isinstance(depth, int) else depth[0]
    return int(value)
