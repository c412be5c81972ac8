"""The lesson of the phase `text_encoder`."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from fixtures.texts import deep_sdxl_teacher, deep_teacher

from edgekd.diffusion.encode import encode_prompts
from edgekd.distill import text_encoder as module
from edgekd.distill.loop import make_accelerator
from edgekd.distill.text_encoder import TextMatching
from edgekd.training.draws import BatchPlan

__all__ = ["deep_sdxl_teacher", "deep_teacher"]


@pytest.fixture(scope="module", params=["deep_teacher", "deep_sdxl_teacher"])
def make(request, make_bench) -> Any:
    bench = make_bench(request.getfixturevalue(request.param))

    def lesson(batch_size: int = 2) -> TextMatching:
        own = {"batch_size": batch_size, "validation_samples": 3}
        section = bench.section(text_encoder=own, precision="fp32")
        return TextMatching(section, bench.load(torch.device("cpu")), make_accelerator())

    return lesson


def test_all_that_is_read_learns_but_for_the_tables(make, monkeypatch):
    lesson, seen, real = make(), [], module.tokenize
    monkeypatch.setattr(module, "tokenize", lambda t, c: seen.append(list(c)) or real(t, c))
    one, two, other = (lesson.terms(step, 0, 0) for step in (0, 0, 1))
    assert all(torch.equal(one[name], two[name]) for name in ("embeddings", "cosine"))
    assert not torch.equal(one["embeddings"], other["embeddings"])
    # The empty caption is in every batch.
    assert all(captions[2:] == [""] and all(captions[:2]) for captions in seen)
    sum(one.values()).backward()
    xl = len(lesson.model.encoders) > 1
    for name, parameter in lesson.model.named_parameters():
        # Nothing is read of SDXL's first encoder behind its last but one layer.
        unread = xl and name.startswith("encoders.0.") and (".layers.1." in name or "final" in name)
        still = ".embeddings." in name or unread
        assert (parameter.grad is not None) == parameter.requires_grad == (not still)
    assert all(p.grad is None for p in lesson._taught.parameters())


def test_what_is_compared_is_what_the_pipeline_takes(make):
    lesson = make()
    with torch.no_grad():
        found = lesson._taught(module.tokenize(lesson._teacher, ["a red apple", ""]))
    text = encode_prompts(lesson._teacher, ["a red apple"])
    hidden = torch.cat([one[:1] for one in found if one.shape[1] > 1], dim=-1)
    torch.testing.assert_close(hidden, text.encoder_hidden_states)
    if text.pooled is not None:
        torch.testing.assert_close(found[-1][0], text.pooled)
    lesson._wrapped = lesson._taught
    losses = [*lesson.terms(0, 0, 0).values(), *lesson.validate(lesson._taught).values()]
    assert [float(loss) for loss in losses] == pytest.approx([0] * 4, abs=1e-6)


def test_validation_does_not_depend_on_the_batch_size(make):
    one, other = make(1), make()
    one._spreads = other._spreads  # of as many captions as a step has
    found, expected = (lesson.validate(other.model) for lesson in (one, other))
    assert found == pytest.approx(expected, rel=1e-4)
    assert min(found.values()) > 0.01


def test_two_processes_have_the_loss_of_one(make):
    """The empty caption is in each of their batches, and weighs as much as in one of all."""
    whole, halves = make(4), [make() for _ in range(2)]
    for rank, half in enumerate(halves):
        half._setup = replace(half._setup, plan=BatchPlan(2, processes=2), rank=rank)
        half._spreads, half._wrapped = whole._spreads, whole.model
    expected = whole.terms(1, 0, 0)
    for name, value in expected.items():
        parts = [float(half.terms(1, 0, 0)[name].detach()) for half in halves]
        assert sum(parts) / 2 == pytest.approx(float(value.detach()), rel=1e-5)


def test_the_sheet_is_drawn_of_the_students_embeddings(make):
    lesson = make()
    same, other = (lesson.draw(model, True).picture for model in (lesson._taught, lesson.model))
    side = len(same) // 2
    assert (same[: side - 2] == same[side + 2 :]).all()
    assert (other[: side - 2] == same[: side - 2]).all()
    assert (other[side + 2 :] != same[side + 2 :]).any()
