"""From a `StudentArch` and its teacher's config to a stock `UNet2DConditionModel` config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekd.student.arch import StudentArch
from edgekd.student.plan import Pair, StudentPlan, plan_student, to_arch
from edgekd.student.resolve import full
from edgekd.student.shape import PLAIN_MID, UNetConfig, read_config


def to_unet_config(arch: StudentArch, teacher_config: Mapping[str, Any]) -> dict[str, Any]:
    """The student's stock config. A full arch gives the teacher's config back.

    Keys that the arch does not touch are the teacher's; private keys (the path that a model
    was loaded from, for one) are left out.

    Raises:
        InputError: see `edgekd.student.plan.plan_student`.
    """
    plan = plan_student(arch, teacher_config)
    config = {
        key: value
        for key, value in teacher_config.items()
        if not key.startswith("_") or key == "_class_name"
    }
    if to_arch(plan) == full(teacher_config):
        return config
    n = len(plan.stages)
    config.update(_block_types(plan, config))
    config["block_out_channels"] = [stage.width for stage in plan.stages]
    _set(config, "layers_per_block", [len(stage.down) for stage in plan.stages])
    _set(config, "attention_head_dim", list(plan.heads))
    for key in ("cross_attention_dim", "only_cross_attention"):
        if isinstance(config.get(key), list | tuple):
            config[key] = list(config[key])[:n]
    _set_depths(config, plan)
    if not plan.mid:
        config["mid_block_type"] = None if plan.mid is None else PLAIN_MID
    return config


def _set(config: dict[str, Any], key: str, values: list[int]) -> None:
    """Set a value per stage, as one number where the teacher's config has one number."""
    teacher = config.get(key, UNetConfig.model_fields[key].default)
    single = isinstance(teacher, int) and len(set(values)) == 1
    if key in config or values != [teacher] * len(values):
        config[key] = values[0] if single else values


def _block_types(plan: StudentPlan, config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Teacher's block types of the kept stages; a block that lost its attention is plain."""
    n = len(plan.stages)
    teacher = read_config(config)
    down: list[str] = list(teacher.down_block_types[:n])
    up: list[str] = list(teacher.up_block_types[plan.teacher.stages - n :])
    for s, stage in enumerate(plan.stages):
        if stage.down and not stage.down[0].blocks:
            down[s] = "DownBlock2D"
        if not stage.up[0].blocks:
            up[n - 1 - s] = "UpBlock2D"
    return {"down_block_types": down, "up_block_types": up}


def _set_depths(config: dict[str, Any], plan: StudentPlan) -> None:
    """`transformer_layers_per_block`, and its reverse where the up path differs."""
    teacher = config.get("transformer_layers_per_block", 1)
    unread = [teacher] * plan.teacher.stages if isinstance(teacher, int) else list(teacher)
    forward: list[int | list[int]] = []
    backward: list[int | list[int]] = []
    for s, stage in enumerate(plan.stages):
        down, up = _depths(stage.down), _depths(stage.up)
        if down is None and plan.mid and s == plan.last:
            down = len(plan.mid)
        # An entry that no block reads stays as it is, or follows the one that is read.
        other = unread[s] if isinstance(unread[s], int) else 1
        other = up if down is None and isinstance(up, int) else other
        forward.append(other if down is None else down)
        backward.append(up if up is not None else forward[-1])
    if backward == forward and all(isinstance(entry, int) for entry in forward):
        if config.get("reverse_transformer_layers_per_block") is not None:
            config["reverse_transformer_layers_per_block"] = None
        _set(config, "transformer_layers_per_block", forward)  # type: ignore[arg-type]
    else:
        config["transformer_layers_per_block"] = forward
        config["reverse_transformer_layers_per_block"] = backward[::-1]


def _depths(pairs: tuple[Pair, ...]) -> int | list[int] | None:
    """Depths of a block's pairs as one number, a list, or None without attention."""
    depths = [len(pair.blocks) for pair in pairs]
    if not any(depths):
        return None
    return depths[0] if len(set(depths)) == 1 else depths
