"""What spans a search space, and the dimensions that follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgekd.errors import InputError
from edgekd.search.stages import StageOptions
from edgekd.student.decoder import DEFAULT_GROUPS, narrow_vae_config
from edgekd.student.shape import UNetShape

Choice = str | int | float | bool
Choices = Mapping[str, Choice]

# One stage alone would never see the picture smaller: it is no U-Net any more.
LEAST_STAGES = 2


@dataclass(frozen=True)
class SpaceSettings:
    """What spans a search space.

    Attributes:
        unet: config of the teacher's U-Net.
        vae: config of its VAE.
        steps: denoising steps on offer.
        precisions: of the target, the preferred one first.
        width_shares: of the teacher's stage widths, which are themselves always on offer.
        decoder_widths: shares of the VAE's channels; the teacher's own VAE is always on offer.
    """

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    steps: tuple[int, ...]
    precisions: tuple[str, ...]
    width_shares: tuple[float, ...] = (1.0, 0.75, 0.5)
    decoder_widths: tuple[float, ...] = (1.0, 0.5, 0.25)


def list_dimensions(
    settings: SpaceSettings, shape: UNetShape, stages: Sequence[StageOptions]
) -> dict[str, tuple[Choice, ...]]:
    """All dimensions, those with a single choice too, the dearest to quality first.

    Raises:
        InputError: no such share, step or precision.
    """
    _check(settings)
    found: dict[str, tuple[Choice, ...]] = {"removed_stages": _removals(shape)}
    for s, stage in enumerate(stages):
        found[f"stages.{s}.pairs"] = tuple(stage.pairs)
        found[f"stages.{s}.width"] = stage.widths
        found[f"stages.{s}.attention"] = stage.attention
        found[f"stages.{s}.depth"] = stage.depths
    attends = any(map(shape.has_attention, range(shape.stages)))
    if shape.mid is None:
        found["mid"] = (False,)
    else:
        found["mid"] = (True, False) if attends else (True,)
    found["decoder_width"] = _decoder_widths(settings)
    found["precision"] = tuple(dict.fromkeys(settings.precisions))
    found["steps"] = tuple(sorted(set(settings.steps), reverse=True))
    return found


def _check(settings: SpaceSettings) -> None:
    for name in ("width_shares", "decoder_widths"):
        shares = getattr(settings, name)
        if not all(0 < share <= 1 for share in shares):
            raise InputError(f"`0 < share <= 1` must hold for `{name}`", str(list(shares)))
    if not settings.steps or min(settings.steps) < 1:
        raise InputError("`steps` must be one or more numbers from 1", str(list(settings.steps)))
    if not settings.precisions:
        raise InputError("`precisions` must name one or more", "none")


def _removals(shape: UNetShape) -> tuple[int, ...]:
    """How many innermost stages a student may lack.

    The last kept stage feeds its own first up pair in place of the first removed one, so it may
    not be wider. A stage that attends stays.
    """
    found = [0]
    for removed in range(1, shape.stages - LEAST_STAGES + 1):
        kept = shape.stages - removed
        attends = any(map(shape.has_attention, range(kept)))
        if attends and shape.widths[kept - 1] <= shape.widths[kept]:
            found.append(removed)
    return tuple(found)


def _decoder_widths(settings: SpaceSettings) -> tuple[float, ...]:
    """Shares as whole GroupNorm groups; one that keeps all of them is the teacher's own."""
    groups = int(settings.vae.get("norm_num_groups", DEFAULT_GROUPS))
    found = {1.0}
    for share in settings.decoder_widths:
        if share < 1:
            narrow = narrow_vae_config(settings.vae, share)
            found.add(narrow["norm_num_groups"] / groups)
    return tuple(sorted(found, reverse=True))
