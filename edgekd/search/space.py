"""The space that a search looks in: every student of one teacher on one target.

Its dimensions are categorical and the same for every candidate, as Optuna's samplers want
them. Each one's choices start with the teacher's own and end with the cheapest. Every
combination is a legal candidate, by these rules:

- dimensions of a removed stage are ignored, so is the width of a stage without a down pair,
  and where the first down pair of the last stage attends, it sets the mid block's depth;
- elsewhere the mid block is as deep as the teacher's innermost stage is asked to be;
- the mid block is dropped where the student's last stage has no place for it: other heads, a
  width that is not whole heads or is more than the mid block's, or a first down pair deeper
  than the teacher's mid block;
- a student reads its text: where nothing would attend, the innermost stage that can does, in
  its up block if the teacher does so there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from edgekd.errors import GateError, InputError
from edgekd.progress import counted
from edgekd.search.candidate import Candidate
from edgekd.search.dimensions import Choice, Choices, SpaceSettings, list_dimensions
from edgekd.search.stages import (
    StageChoice,
    StagePairs,
    attention_of,
    kept_blocks,
    stage_arch,
    stage_options,
)
from edgekd.student.arch import Indices, StageArch, StudentArch
from edgekd.student.resolve import evenly_spaced, full
from edgekd.student.shape import read_shape


class SearchSpace:
    """All candidates of a teacher on a target.

    Raises:
        InputError: no teacher that students can be made of, or no such share, step or precision.
    """

    def __init__(self, settings: SpaceSettings) -> None:
        full(settings.unet)  # refuses a teacher that is no student of itself
        self._shape = read_shape(settings.unet)
        self._range = range(self._shape.stages)
        self._stages = [stage_options(self._shape, s, settings.width_shares) for s in self._range]
        self._archs: dict[tuple[int, StageChoice], StageArch] = {}
        self._all = list_dimensions(settings, self._shape, self._stages)
        self._known = {
            name: {choice: choice for choice in options} for name, options in self._all.items()
        }

    @cached_property
    def dimensions(self) -> Mapping[str, tuple[Choice, ...]]:
        """Name -> choices, the teacher's own first and the cheapest last.

        A stage's dimensions are listed where it has a choice; the other five always are.
        """
        return {
            name: options
            for name, options in self._all.items()
            if len(options) > 1 or not name.startswith("stages.")
        }

    @property
    def size(self) -> int:
        """Number of combinations."""
        return prod(len(options) for options in self.dimensions.values())

    def full(self) -> Choices:
        """The teacher itself: its architecture and its own decoder, most steps, first precision."""
        return {name: options[0] for name, options in self.dimensions.items()}

    def cheapest(self) -> Choices:
        """The cheapest choice of every dimension."""
        return {name: options[-1] for name, options in self.dimensions.items()}

    def draw(self, rng: np.random.Generator) -> Choices:
        """A choice of every dimension, each as likely as the others."""
        return {
            name: options[int(rng.integers(len(options)))]
            for name, options in self.dimensions.items()
        }

    def sample(self, rng: np.random.Generator) -> Candidate:
        """The candidate of a draw."""
        return self.candidate(self.draw(rng))

    def candidate(self, choices: Choices) -> Candidate:
        """What was chosen, with all that is without effect left out.

        Raises:
            InputError: a dimension is missing or unknown, or a choice is not on offer.
        """
        picked: Any = self._picked(choices)
        stages: list[StageArch] = []
        for s in range(self._shape.stages - picked["removed_stages"]):
            stages.append(self._stage(s, picked, stages))
        mid = self._mid(stages, picked) if picked["mid"] else None
        if not mid and not any(attention_of(stage) != "none" for stage in stages):
            self._read_text(stages, picked)
        arch = StudentArch(stages=tuple(stages), mid=mid is not None, mid_transformers=mid)
        return Candidate(
            arch=arch,
            decoder_width=picked["decoder_width"],
            steps=picked["steps"],
            precision=picked["precision"],
        )

    def choices(self, candidate: Candidate) -> Choices:
        """Choices that give a candidate; the teacher's own in dimensions without effect.

        Raises:
            InputError: the candidate is not in the space.
        """
        found = self._literal(candidate)
        chosen = {name: found.get(name, options[0]) for name, options in self.dimensions.items()}
        outside = [name for name, choice in chosen.items() if choice not in self._known[name]]
        if not outside:
            depths = {f"stages.{s}.depth": self._depth(s, candidate.arch) for s in self._range}
            chosen |= {name: depth for name, depth in depths.items() if name in chosen}
        if outside or self.candidate(chosen) != candidate:
            raise InputError(
                "the candidate must be in the search space",
                f"another choice of {', '.join(outside) or 'what no dimension offers'}",
            )
        return chosen

    def _literal(self, candidate: Candidate) -> dict[str, Choice]:
        """The choices that a candidate shows as they are: all but depths."""
        arch = candidate.arch
        found: dict[str, Choice] = {
            "removed_stages": self._shape.stages - len(arch.stages),
            "mid": arch.mid,
            "decoder_width": candidate.decoder_width,
            "steps": candidate.steps,
            "precision": candidate.precision,
        }
        for s, stage in enumerate(arch.stages):
            pairs = StagePairs(stage.down or (), stage.up or ())
            found[f"stages.{s}.pairs"] = pairs.label()
            found[f"stages.{s}.attention"] = attention_of(stage)
            if pairs.down and stage.width is not None:
                found[f"stages.{s}.width"] = stage.width
        return found

    def fit(self, choices: Choices, allowed: Callable[[Candidate], bool]) -> Choices:
        """The choices themselves if they are allowed, or else the nearest that are.

        Everything is first set to the cheapest. Then each dimension goes back as far towards
        what was asked for as is allowed, the dearest to quality first: stages, then from the
        outermost stage inwards pairs, width, attention and depth, then the mid block, the
        decoder, the precision and the steps. So steps are given up before anything else.

        Raises:
            GateError: even the cheapest is not allowed, in any precision.
        """
        if allowed(self.candidate(choices)):
            return dict(choices)
        current = self._cheapest_allowed(choices, allowed)
        for name, options in self.dimensions.items():
            asked, reached = options.index(choices[name]), options.index(current[name])
            for choice in options[asked:reached]:
                nearer = {**current, name: choice}
                if allowed(self.candidate(nearer)):
                    current = nearer
                    break
        return current

    def _cheapest_allowed(
        self, choices: Choices, allowed: Callable[[Candidate], bool]
    ) -> dict[str, Choice]:
        """Which precision is cheap only a measurement knows: all are tried."""
        precisions = self.dimensions["precision"]
        for precision in (choices["precision"], *reversed(precisions)):
            cheapest = {**self.cheapest(), "precision": precision}
            if allowed(self.candidate(cheapest)):
                return cheapest
        raise GateError(
            "some student of the search space must keep to the target's limits",
            f"not even the smallest, {_in_words(self.candidate(self.cheapest()))}",
        )

    def _picked(self, choices: Choices) -> dict[str, Choice]:
        if choices.keys() != self.dimensions.keys():
            wrong = sorted(choices.keys() ^ self.dimensions.keys())
            raise InputError(
                "there must be a choice for each dimension of the search space and no other",
                f"missing or unknown: {', '.join(wrong)}",
            )
        picked = {name: options[0] for name, options in self._all.items()}
        for name, choice in choices.items():
            if choice not in self._known[name]:
                options = ", ".join(map(str, self.dimensions[name]))
                raise InputError(f"`{name}` must be one of {options}", repr(choice))
            picked[name] = self._known[name][choice]
        return picked

    def _stage(self, s: int, picked: Any, outer: Sequence[StageArch]) -> StageArch:
        where = f"stages.{s}"
        pairs, width = picked[f"{where}.pairs"], picked[f"{where}.width"]
        if outer and not self._stages[s].pairs[pairs].down:
            width = outer[-1].width
        attention, depth = picked[f"{where}.attention"], picked[f"{where}.depth"]
        return self._arch(s, StageChoice(pairs, attention, depth, width))

    def _arch(self, s: int, choice: StageChoice) -> StageArch:
        found = self._archs.get((s, choice))
        if found is None:
            found = stage_arch(self._shape, s, self._stages[s].pairs[choice.pairs], choice)
            self._archs[s, choice] = found
        return found

    def _mid(self, stages: Sequence[StageArch], picked: Any) -> Indices | None:
        """Kept blocks of the mid block; None where it does not fit (`plan._check_mid`)."""
        shape, last, innermost = self._shape, len(stages) - 1, self._shape.stages - 1
        depth, width = shape.mid, stages[last].width
        if depth is None or width is None:
            return None
        if depth == 0:
            return () if width <= shape.widths[innermost] else None
        size = shape.head_size(innermost)
        attends = attention_of(stages[last]) != "none"
        if width % size or (attends and shape.head_size(last) != size):
            return None
        tied = _first_depth(stages[last])
        if width > shape.widths[innermost] or tied > depth:
            return None
        return evenly_spaced(depth, tied or min(depth, picked[f"stages.{innermost}.depth"]))

    def _read_text(self, stages: list[StageArch], picked: Any) -> None:
        """Let the innermost stage that can attend do so, in its up block if it can."""
        for s in reversed(range(len(stages))):
            attention = self._stages[s].attention
            if attention != ("none",):
                side = "up" if "up" in attention else "down"
                stages[s] = self._stage(s, {**picked, f"stages.{s}.attention": side}, stages[:s])
                return

    def _depth(self, s: int, arch: StudentArch) -> int:
        """The depth that a stage was asked for, or the teacher's if it has no effect."""
        shape, kept = self._shape, []
        if s < len(arch.stages):
            kept = kept_blocks(shape, s, arch.stages[s])
        free = arch.mid_transformers is not None and not _first_depth(arch.stages[-1])
        if s == shape.stages - 1 and free and shape.mid is not None:
            kept.append((shape.mid, arch.mid_transformers or ()))
        for depth in self._stages[s].depths:
            if all(blocks == evenly_spaced(own, min(own, depth)) for own, blocks in kept):
                return depth
        return self._stages[s].depths[0]


def _first_depth(stage: StageArch) -> int:
    """Transformer blocks of the first down pair."""
    return len(stage.down_transformers[0]) if stage.down_transformers else 0


def _in_words(candidate: Candidate) -> str:
    widths = [stage.width for stage in candidate.arch.stages]
    return (
        f"stages of {widths} channels, {'a' if candidate.arch.mid else 'no'} mid block, "
        f"decoder {candidate.decoder_width:g}, {counted(candidate.steps, 'step')}, "
        f"{candidate.precision}"
    )
