"""The decoder phase's lesson."""

import copy
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edgekd.distill.decoder import DecoderMatching, Generated
from edgekd.distill.loop import make_accelerator
from edgekd.errors import InputError
from edgekd.training.draws import BatchPlan


class Drawn:
    def __init__(self, latents: Tensor) -> None:
        self.latents = latents

    def __len__(self) -> int:
        return len(self.latents)

    def batch(self, indices: Tensor) -> Tensor:
        return self.latents[indices]


@dataclass(frozen=True)
class Both:
    train: Drawn
    validation: Drawn


@pytest.fixture
def lesson(bench):
    def make(generated: Generated | None = None, **settings: Any) -> DecoderMatching:
        decoder = {"batch_size": 2, "validation_samples": 3, **settings}
        section = bench.section(decoder=decoder, precision="fp32")
        sources = bench.load(torch.device("cpu"))
        return DecoderMatching(section, sources, generated, make_accelerator())

    return make


@pytest.fixture
def drawn() -> Generated:
    latents = torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return Both(Drawn(latents), Drawn(latents + 1))


def test_terms_are_a_pure_function_with_gradients_for_all_weights(lesson):
    taught = lesson()
    with taught.attached(taught.model, taught.model):
        one, two, other = (taught.terms(step, 0, 0) for step in (0, 0, 1))
    assert one.keys() == taught.weights_at(0).keys() == {"pixels", "perceptual", "moments"}
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["pixels"], other["pixels"])
    sum(one.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in taught.model.parameters())
    assert all(p.grad is None for p in taught._teacher.parameters())


@pytest.mark.parametrize(
    "spread", [(2, 4, 1), (2, 1, 4), (1, 2, 4), (4, 1, 2), (3, 2, 1), (2, 1, 3)], ids=str
)
def test_a_step_is_the_same_however_its_samples_are_spread(lesson, spread):
    """(batch, micro-batches, processes); a micro-batch of one or two may have none to encode."""
    taught = lesson()

    def step(plan: BatchPlan) -> tuple[dict[str, float], Tensor]:
        parts = plan.accumulation * plan.processes
        taught.model.zero_grad()
        means: dict[str, float] = {}
        for rank in range(plan.processes):
            taught._setup = replace(taught._setup, plan=plan, rank=rank)
            for micro in range(plan.accumulation):
                terms = taught.terms(1, 0, micro)
                (sum(terms.values()) / parts).backward()
                for name, value in terms.items():
                    means[name] = means.get(name, 0.0) + float(value.detach()) / parts
        parameters = list(taught.model.parameters())
        assert all(p.grad is not None for p in parameters)
        return means, torch.cat([p.grad.flatten() for p in parameters])

    together, gradient = step(BatchPlan(spread[0] * spread[1] * spread[2]))
    apart, summed = step(BatchPlan(*spread))
    assert together["moments"] > 0
    assert apart == pytest.approx(together, rel=1e-5)
    # Losses are absolute errors: rounding turns the sign of one that is near 0, one of 512 latents.
    assert float((summed - gradient).norm()) < 1e-2 * float(gradient.norm())


def test_terms_vanish_at_the_teacher(lesson, bench):
    taught = lesson()
    taught.model.vae = bench.teacher.vae
    terms = taught.terms(0, 0, 0)
    assert all(float(value) == pytest.approx(0, abs=1e-6) for value in terms.values())
    losses = taught.validate(taught.model)
    assert losses["validation_psnr_db"] > 100
    assert losses["validation_moments"] == 0
    assert losses["validation_sharpness"] == pytest.approx(1)


def test_blur_is_told(lesson, bench, monkeypatch):
    """A decoder that blurs, after the teacher's: its pictures lack high frequencies."""
    taught = lesson()
    own = copy.deepcopy(bench.teacher.vae)
    decode = own.decode

    def blurred(latents: Tensor) -> Any:
        pictures = F.pad(decode(latents).sample, (1, 1, 1, 1), mode="replicate")
        return SimpleNamespace(sample=F.avg_pool2d(pictures, 3, stride=1))

    monkeypatch.setattr(own, "decode", blurred)
    taught.model.vae = own
    losses = taught.validate(taught.model)
    assert 0 < losses["validation_sharpness"] < 0.5
    told = taught.describe(losses)
    assert told.endswith(f"dB, sharpness {losses['validation_sharpness']:.2f}")


@pytest.mark.parametrize(
    ("name", "function"),
    [("perceptual", "decoder.feature_distance"), ("moments", "narrow_vae.moment_distance")],
)
def test_a_term_of_no_weight_is_not_computed(lesson, monkeypatch, name, function):
    monkeypatch.setattr(f"edgekd.distill.{function}", None)
    taught = lesson(**{name: 0})
    rest = {"pixels", "perceptual", "moments"} - {name}
    assert taught.terms(0, 0, 0).keys() == taught.weights_at(0).keys() == rest


@pytest.mark.parametrize("kind", ["kl", "tiny"])
def test_without_moments_the_encoder_stays_as_it_begins(lesson, kind):
    taught = lesson(moments=0, kind=kind)
    sum(taught.terms(0, 0, 0).values()).backward()
    vae = taught.model.vae
    learning = set(vae.decoder.parameters())
    if kind == "kl":
        learning |= {*vae.post_quant_conv.parameters()}
    for parameter in vae.parameters():
        assert (parameter.grad is not None) == (parameter in learning)


def test_validation_is_told_of_images_and_of_drawn_latents(lesson, drawn):
    taught = lesson(drawn)
    losses = taught.validate(taught.model)
    assert losses.keys() == {
        "validation_psnr_db",
        "validation_sharpness",
        "validation_moments",
        "validation_generated_psnr_db",
    }
    assert "dB, of drawn ones" in taught.describe(losses)
    del losses["validation_generated_psnr_db"]
    assert "drawn" not in taught.describe(losses)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_validation_does_not_depend_on_the_batch_size(lesson, batch_size):
    taught = lesson(batch_size=batch_size)
    expected = lesson(batch_size=2)
    expected.model = taught.model
    found, reference = (one.validate(taught.model) for one in (taught, expected))
    assert found == pytest.approx(reference, rel=1e-5)


def test_sheet_of_teacher_above_narrow_vae(lesson, drawn, bench):
    taught = lesson(drawn)
    sheet = taught.draw(taught.model, last=True).picture
    assert sheet.shape == (2 * 32 + 4, 5 * 32 + 4 * 4, 3)
    with torch.no_grad():
        row = bench.teacher.vae.decode(drawn.validation.batch(torch.arange(1)) / 0.5).sample
    first = ((row[0].clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 0).numpy()
    assert abs(sheet[:32, :32].astype(float) - first).max() <= 1
    assert lesson().draw(taught.model, last=True).picture.shape == (2 * 32 + 4, 6 * 32 + 5 * 4, 3)


def test_large_latents_are_learnt_from_crops(lesson, monkeypatch):
    seen = []
    taught = lesson(crop=8)
    taught._train = replace(taught._train, crop=4)
    decode = taught._teacher.decode
    monkeypatch.setattr(taught._teacher, "decode", lambda x: seen.append(x.shape) or decode(x))
    taught.terms(0, 0, 0)
    assert seen == [(2, 4, 4, 4)]


def test_a_width_that_no_group_fits_is_refused(lesson):
    with pytest.raises(InputError, match="groups of channels"):
        lesson(width=0.001)
