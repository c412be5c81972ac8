"""Judge a choice of bits on pictures that it was not made on.

A choice fits the few pictures whose noise it was made for better than others: on the starter
teacher, 0.85 dB of loss on two prompts were 5.3 dB on 24 others, and single pictures lost up to
17 dB. So what is promised of a choice is measured on prompts and noise of their own, which no
choice is fitted to. Pictures differ a lot in what a rounding does to them (by 3.5 dB, standard
deviation, in that example); the mean loss of 16 pictures has a standard error of 1 dB.

Measured on a student of the starter in OpenVINO, 1 dB allowed: the first choice, 0.5 dB lost on
the measured prompts, lost 4.39 dB here; the second one gained 0.98 dB (standard error 0.71), and
0.62 dB (1.01) on a third set of 16 prompts.

What it costs: a judgement is a drawing of 16 pictures, as much as eight sensitivities of two
prompts. Uniform 8 bits and the choice are drawn once each, and so is each choice that is tried
after one that lost too much.
"""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from edgekd.export.bits.cache import NoiseMeasurements
from edgekd.export.bits.choices import Choices
from edgekd.export.bits.recipe import HeldOutMeasured
from edgekd.export.bits.sensitivity import RepeatedDrawing, noise_db

# Things, beings, scenes, styles; of different lengths. Any text will do for any pipeline.
HELD_OUT_PROMPTS = (
    "a green frog",
    "yellow taxi, flat style",
    "a smiling face with sunglasses",
    "birthday cake with three candles on a wooden table",
    "blue fish",
    "a portrait of an old man, oil on canvas",
    "snowy mountain",
    "an old ship on the sea, 3d style",
    "two people dancing",
    "a cup of coffee",
    "castle at night",
    "an orange cat that sleeps on a red sofa",
    "rocket, 3d style",
    "city street in the rain, black and white photograph",
    "a tree in autumn",
    "the number seven",
)
# Far from the seeds that sensitivities and parity use.
HELD_OUT_SEED = 100_000


class HeldOut:
    """Pictures of prompts that were not measured with.

    Args:
        choices: what was measured, and how; prompts that it used are left out here.
        cache_folder: keeps what is measured here.
    """

    def __init__(self, choices: Choices, cache_folder: Path) -> None:
        self._choices = choices
        used = choices.measured.session
        self.prompts = [prompt for prompt in HELD_OUT_PROMPTS if prompt not in used.prompts]
        changed = {"prompts": tuple(self.prompts), "seed": HELD_OUT_SEED}
        self._session = used.model_copy(update=changed)
        self._measurements = NoiseMeasurements(cache_folder, choices.circumstances(self._session))

    @cached_property
    def _drawings(self) -> list[RepeatedDrawing]:
        """One picture each: each has its own loss."""
        measured = self._choices.measured
        sessions = (
            self._session.model_copy(update={"prompts": (prompt,), "seed": HELD_OUT_SEED + index})
            for index, prompt in enumerate(self.prompts)
        )
        return [RepeatedDrawing(measured.pipeline, one, measured.storage) for one in sessions]

    def _psnr_db(self, chosen: list[int]) -> list[float]:
        """Of each picture, drawn with a choice, to the untouched one."""
        bits = self._choices.drawn_bits(chosen)
        found = []
        for index in range(len(self.prompts)):
            key = {"picture": index, "bits": bits}
            known = self._measurements.get(key)
            if known is None:
                known = self._drawings[index].noise(bits)
                self._measurements.add(key, known)
            found.append(noise_db(known.pictures))
        return found

    def measure(self, chosen: list[int]) -> HeldOutMeasured:
        """The loss of a choice against uniform 8 bits."""
        uniform = np.array(self._psnr_db(self._choices.uniform(8)))
        psnr = np.array(self._psnr_db(chosen))
        drops = uniform - psnr
        return HeldOutMeasured(
            psnr_db=_rounded(psnr.mean()),
            uniform_psnr_db=_rounded(uniform.mean()),
            drop_db=_rounded(drops.mean()),
            drop_standard_error_db=_rounded(drops.std(ddof=1) / math.sqrt(len(drops))),
            worst_drop_db=_rounded(drops.max()),
            prompts=self.prompts,
            seed=HELD_OUT_SEED,
        )


def _rounded(value: Any) -> float:
    return round(float(value), 2)
