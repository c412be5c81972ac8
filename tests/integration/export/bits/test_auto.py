import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.errors import GateError, InputError
from edgekd.export.bits import choices
from edgekd.export.bits.auto import BitBounds, choose_bits
from edgekd.export.bits.choices import MeasuredPipeline
from edgekd.export.bits.held_out import HeldOut
from edgekd.export.bits.recipe import (
    ComponentRecipe,
    HeldOutMeasured,
    QuantizationRecipe,
    RecipeSource,
    resolve,
)
from edgekd.export.bits.sensitivity import RepeatedDrawing, noise_db
from edgekd.export.bits.storage import Array, LinearStorage
from edgekd.export.bits.weights import Bits, models, stored_bytes
from edgekd.export.protocol import Generation
from edgekd.export.trajectory import parity_session
from edgekd.progress import Silent

STORAGE = LinearStorage(dict.fromkeys(("conv", "linear", "embedding"), (8, 6, 4)))
GENERATION = Generation(steps=2, guidance_scale=3.0)
PROMPTS = ["red apple"]
SESSION = parity_session(PROMPTS, GENERATION)
SOURCE = RecipeSource(hash="0" * 64, pipeline="StableDiffusionPipeline")


@pytest.fixture(autouse=True, scope="module")
def few_units() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choices, "UNITS_PER_COMPONENT", 6)
        yield


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """Shared by the tests: measurements are made once."""
    return tmp_path_factory.mktemp("sensitivity")


def choose(pipeline: Any, cache: Path, **bounds: Any) -> QuantizationRecipe:
    measured = MeasuredPipeline(pipeline, SOURCE, STORAGE, SESSION)
    return choose_bits(measured, BitBounds(**bounds), cache, Silent())


def size(pipeline: Any, bits: dict[str, Bits]) -> int:
    found = models(pipeline)
    return sum(stored_bytes(model, bits[name], STORAGE) for name, model in found.items())


@pytest.mark.parametrize("drop", [0.0, 3.0, 9.0])
def test_smallest_choice_within_the_drop(shallow_pipeline, cache, drop):
    recipe = choose(shallow_pipeline, cache, max_drop_db=drop)
    measured = recipe.measured
    assert measured.drop_db <= drop + 0.005  # rounded to 0.01 dB
    assert measured.held_out.drop_db <= drop + 0.005
    assert measured.weights_bytes <= measured.uniform_weights_bytes
    bits = resolve(recipe, models(shallow_pipeline), STORAGE)
    assert size(shallow_pipeline, bits) == measured.weights_bytes
    # Measured again from the recipe alone.
    noise = RepeatedDrawing(shallow_pipeline, SESSION, STORAGE).noise(bits)
    assert noise_db(noise.pictures) == pytest.approx(measured.psnr_db, abs=0.01)
    encoder = {value for name, value in bits["vae"].items() if name.startswith("encoder.")}
    assert encoder <= {8, None}


def test_drop_on_held_out_pictures_is_that_of_a_drawing(shallow_pipeline, cache):
    """Measured again, from the recipe and the prompts and the seed that it tells."""
    recipe = choose(shallow_pipeline, cache, max_drop_db=9.0)
    told = recipe.measured.held_out
    assert not set(told.prompts) & set(PROMPTS)
    found = models(shallow_pipeline)
    uniform = QuantizationRecipe(
        format=1, method="linear", components={name: ComponentRecipe(default=8) for name in found}
    )
    psnr = {
        name: [
            noise_db(
                RepeatedDrawing(
                    shallow_pipeline,
                    parity_session([prompt], GENERATION, told.seed + index),
                    STORAGE,
                )
                .noise(resolve(bits, found, STORAGE))
                .pictures
            )
            for index, prompt in enumerate(told.prompts)
        ]
        for name, bits in (("chosen", recipe), ("uniform", uniform))
    }
    drops = np.subtract(psnr["uniform"], psnr["chosen"])
    assert np.mean(psnr["chosen"]) == pytest.approx(told.psnr_db, abs=0.01)
    assert np.mean(psnr["uniform"]) == pytest.approx(told.uniform_psnr_db, abs=0.01)
    assert drops.mean() == pytest.approx(told.drop_db, abs=0.01)
    assert drops.max() == pytest.approx(told.worst_drop_db, abs=0.01)
    assert drops.std(ddof=1) / 4 == pytest.approx(told.drop_standard_error_db, abs=0.01)


def test_loss_on_held_out_pictures_gives_bits_back(shallow_pipeline, cache, tmp_path, monkeypatch):
    """Held-out pictures that lose 2 dB more than those that the choice was made on."""
    shutil.copytree(cache, tmp_path, dirs_exist_ok=True)
    before = choose(shallow_pipeline, tmp_path, max_drop_db=6.0).measured
    worse_by(monkeypatch, 2.0)
    after = choose(shallow_pipeline, tmp_path, max_drop_db=6.0).measured
    assert after.drop_db + 2.0 <= 6.0 + 0.005
    assert before.weights_bytes <= after.weights_bytes <= after.uniform_weights_bytes


def test_choice_that_no_bits_save_is_uniform(shallow_pipeline, cache, tmp_path, monkeypatch):
    shutil.copytree(cache, tmp_path, dirs_exist_ok=True)
    worse_by(monkeypatch, 60.0)
    measured = choose(shallow_pipeline, tmp_path, max_drop_db=3.0).measured
    assert measured.weights_bytes == measured.uniform_weights_bytes
    assert measured.drop_db == 0


def worse_by(monkeypatch: pytest.MonkeyPatch, more_db: float) -> None:
    """Held-out pictures lose what measured ones do, and more."""

    def measure(self: HeldOut, chosen: list[int]) -> HeldOutMeasured:
        made = self._choices
        uniform = noise_db(made.measure(made.uniform(8)).pictures)
        psnr = noise_db(made.measure(chosen).pictures)
        return HeldOutMeasured(
            psnr_db=psnr,
            uniform_psnr_db=uniform,
            drop_db=uniform - psnr + more_db,
            drop_standard_error_db=0.0,
            worst_drop_db=uniform - psnr + more_db,
            prompts=self.prompts,
            seed=0,
        )

    monkeypatch.setattr(HeldOut, "measure", measure)


def test_more_drop_is_smaller(shallow_pipeline, cache):
    sizes = []
    for drop in (0.0, 3.0, 9.0):
        measured = choose(shallow_pipeline, cache, max_drop_db=drop).measured
        sizes.append(measured.weights_bytes)
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < sizes[0]


def test_quietest_choice_is_not_above_the_budget_and_beats_uniform(shallow_pipeline, cache):
    uniform = {
        name: {key: 6 if value else None for key, value in part.items()}
        for name, part in resolve(
            choose(shallow_pipeline, cache, max_drop_db=0.0), models(shallow_pipeline), STORAGE
        ).items()
    }
    budget = size(shallow_pipeline, uniform)
    measured = choose(shallow_pipeline, cache, size_budget_bytes=budget).measured
    assert measured.weights_bytes <= budget
    noise = RepeatedDrawing(shallow_pipeline, SESSION, STORAGE).noise(uniform)
    assert measured.psnr_db >= noise_db(noise.pictures)


def test_noises_of_units_add_up(shallow_pipeline, cache):
    """The assumption of the knapsack, and of the noise of many bits taken from that of few."""
    made = choices.Choices(
        MeasuredPipeline(shallow_pipeline, SOURCE, STORAGE, SESSION), cache, Silent()
    )
    options = made.options()
    for bits, index in ((8, 1), (6, 2)):
        whole = made.measure(made.uniform(bits)).pictures
        added = sum(unit[index].noise for unit in options)
        # Errors of one prompt in two steps can align; on average they do not.
        assert abs(noise_db(added) - noise_db(whole)) < 3
    differences = []
    for unit, noises in zip(made.units, options, strict=True):
        measured = made.drawing.noise({unit.component: unit.bits(8)}).pictures
        if measured > 1e-10:  # float32 itself is as noisy as that
            differences.append(noise_db(noises[1].noise) - noise_db(measured))
    assert len(differences) > 5
    assert abs(np.mean(differences)) < 1
    assert np.std(differences) < 3


def test_same_input_same_recipe(shallow_pipeline, cache, tmp_path):
    first = choose(shallow_pipeline, cache, max_drop_db=3.0)
    assert choose(shallow_pipeline, tmp_path, max_drop_db=3.0) == first


def test_killed_choice_resumes(shallow_pipeline, cache, tmp_path, monkeypatch):
    expected = choose(shallow_pipeline, cache, max_drop_db=3.0)
    # Of the measured prompts and of the held-out ones.
    for known in cache.glob("*.jsonl"):
        lines = known.read_text(encoding="utf-8").splitlines(keepends=True)
        # As a process leaves it that is killed while it writes its last measurement.
        torn = "".join(lines[:-1]) + lines[-1][:20]
        (tmp_path / known.name).write_text(torn, encoding="utf-8")
    assert len(list(tmp_path.iterdir())) == 2
    drawn = []
    noise = RepeatedDrawing.noise

    def counted(self, bits):
        drawn.append(bits)
        return noise(self, bits)

    monkeypatch.setattr(RepeatedDrawing, "noise", counted)
    assert choose(shallow_pipeline, tmp_path, max_drop_db=3.0) == expected
    assert len(drawn) <= 2


class Breaking(LinearStorage):
    """Four bits make NaN of convolutions."""

    def rounded(self, weight: Array, bits: int) -> Array:
        broken = bits == 4 and weight.ndim == 4
        return np.full_like(weight, np.nan) if broken else super().rounded(weight, bits)


def test_bits_that_leave_no_picture_are_chosen_never(shallow_pipeline, tmp_path):
    def choose_of(**bounds):
        measured = MeasuredPipeline(shallow_pipeline, SOURCE, Breaking(STORAGE.bits), SESSION)
        return choose_bits(measured, BitBounds(**bounds), tmp_path, Silent())

    measured = choose_of(size_budget_bytes=890_000).measured
    assert measured.psnr_db > 0
    with pytest.raises(GateError, match=r"finite pictures in --size-budget 680000 bytes, but got"):
        choose_of(size_budget_bytes=680_000)


def test_budget_below_the_smallest_choice_fails(shallow_pipeline, cache):
    with pytest.raises(
        GateError, match=r"fit in --size-budget 1000 bytes, but got at least \d+ bytes"
    ):
        choose(shallow_pipeline, cache, size_budget_bytes=1000)


def test_budget_that_needs_more_drop_fails(shallow_pipeline, cache):
    least = choose(shallow_pipeline, cache, max_drop_db=0.0).measured
    with pytest.raises(
        GateError, match=rf"0 dB below uniform 8-bit weights .* got {least.weights_bytes} bytes"
    ):
        choose(
            shallow_pipeline, cache, max_drop_db=0.0, size_budget_bytes=least.weights_bytes - 1000
        )


@pytest.mark.parametrize(
    ("bounds", "problem"),
    [
        ({}, "needs --max-drop or --size-budget, but got neither"),
        ({"max_drop_db": -1.0}, "`--max-drop >= 0` dB must hold, but got -1.0"),
        ({"max_drop_db": float("nan")}, "`--max-drop >= 0` dB must hold, but got nan"),
        ({"size_budget_bytes": 0}, "`--size-budget > 0` must hold, but got 0"),
    ],
)
def test_bounds_that_make_no_sense(bounds, problem):
    with pytest.raises(InputError, match=problem):
        BitBounds(**bounds)
