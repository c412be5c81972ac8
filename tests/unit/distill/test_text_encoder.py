"""The lesson of the phase `text_encoder`."""

from typing import Any

import pytest
import torch
from fixtures.texts import DEPTH, deep_sdxl_teacher, deep_teacher

from edgekd.diffusion.encode import encode_prompts
from edgekd.distill import text_encoder as module
from edgekd.distill.loop import make_accelerator
from edgekd.distill.text_encoder import TextEncoders, TextMatching
from edgekd.errors import InputError

__all__ = ["deep_sdxl_teacher", "deep_teacher"]


@pytest.fixture(scope="module")
def xl(make_bench, deep_sdxl_teacher) -> Any:
    return make_bench(deep_sdxl_teacher)


@pytest.fixture(scope="module", params=["deep_teacher", "deep_sdxl_teacher"])
def teachers_bench(request, make_bench, xl) -> Any:
    path = request.getfixturevalue(request.param)
    return make_bench(path) if request.param == "deep_teacher" else xl


def make(bench: Any, **settings: Any) -> TextMatching:
    own = {"batch_size": 2, "validation_samples": 3, **settings}
    section = bench.section(text_encoder=own, precision="fp32")
    return TextMatching(section, bench.load(torch.device("cpu")), make_accelerator())


@pytest.fixture
def lesson(teachers_bench) -> TextMatching:
    return make(teachers_bench)


def test_terms_are_a_pure_function_with_gradients_for_all_that_learns(lesson):
    with lesson.attached(lesson.model, lesson.model):
        one, two, other = (lesson.terms(step, 0, 0) for step in (0, 0, 1))
    assert one.keys() == lesson.weights_at(0).keys() == {"embeddings", "cosine"}
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["embeddings"], other["embeddings"])
    sum(one.values()).backward()
    still = []
    for name, parameter in lesson.model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad
        if not parameter.requires_grad:
            still.append(name.partition("text_model.")[2].rpartition(".")[0])
        else:
            assert parameter.grad.isfinite().all()
    tables = ["embeddings.token_embedding", "embeddings.position_embedding"]
    texts = len(lesson.model.encoders)
    assert [name for name in still if name in tables] == tables * texts
    # Of SDXL's first encoder nothing is read behind the last but one layer.
    unread = {name.split(".self_attn")[0].split(".mlp")[0] for name in still if name not in tables}
    parts = {one.rsplit(".layer_norm", 1)[0] for one in unread}
    assert parts == ({"encoder.layers.1", "final_layer_norm"} if texts > 1 else set())
    assert all(p.grad is None for p in lesson._taught.parameters())


def test_terms_vanish_at_the_teacher(lesson):
    lesson._wrapped = lesson._taught
    terms = lesson.terms(0, 0, 0)
    assert all(float(value) == pytest.approx(0, abs=1e-6) for value in terms.values())
    losses = lesson.validate(lesson._taught)
    assert losses == pytest.approx({"validation_embeddings": 0, "validation_cosine": 0}, abs=1e-6)
    assert lesson.describe(losses).startswith("100.0% of the embeddings' variance explained")


def test_what_is_compared_is_what_the_pipeline_takes(lesson):
    """A student that is wrong where nobody looks is not wrong."""
    tokens = module.tokenize(lesson._teacher, ["a red apple", ""])
    with torch.no_grad():
        found = lesson._taught(tokens)
    text = encode_prompts(lesson._teacher, ["a red apple"])
    hidden = [one for one in found if one.shape[1] > 1]
    assert torch.allclose(torch.cat(hidden, dim=-1)[:1], text.encoder_hidden_states, atol=1e-5)
    if text.pooled is not None:
        assert torch.allclose(found[-1][0], text.pooled, atol=1e-5)
        assert len(found) == 3


def test_the_empty_caption_is_in_every_batch(lesson, monkeypatch):
    seen = []
    real = module.tokenize
    monkeypatch.setattr(module, "tokenize", lambda t, c: seen.append(list(c)) or real(t, c))
    for step in (0, 1):
        lesson.terms(step, 0, 0)
    assert [len(captions) for captions in seen] == [3, 3]
    assert all(captions[-1] == "" and all(captions[:-1]) for captions in seen)


def test_half_of_the_layers_stay(lesson):
    for encoder, kept in zip(lesson._teacher.text_encoders, lesson.layers, strict=True):
        assert len(kept) == 2
        assert encoder.config.num_hidden_layers == DEPTH
    if len(lesson.layers) > 1:
        assert all(kept[-1] == DEPTH - 1 for kept in lesson.layers)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_validation_does_not_depend_on_the_batch_size(xl, batch_size):
    one, other = make(xl, batch_size=batch_size), make(xl, batch_size=2)
    found, expected = (lesson.validate(other.model) for lesson in (one, other))
    assert found == pytest.approx(expected, rel=1e-4)
    assert min(found.values()) > 0.01


def test_a_term_of_no_weight_is_not_computed(make_bench, deep_teacher):
    taught = make(make_bench(deep_teacher), cosine=0)
    assert taught.terms(0, 0, 0).keys() == taught.weights_at(0).keys() == {"embeddings"}


def test_the_sheet_is_drawn_of_the_students_embeddings(lesson):
    same = lesson.draw(lesson._taught)
    side = same.picture.shape[0] // 2
    assert same.rows == ("teacher, 2 steps", "student, 2 steps")
    assert (same.picture[: side - 2] == same.picture[side + 2 :]).all()
    other = lesson.draw(lesson.model)
    assert (other.picture[: side - 2] != other.picture[side + 2 :]).any()
    assert (other.picture[: side - 2] == same.picture[: side - 2]).all()


def test_several_encoders_are_written_by_their_names(lesson, tmp_path):
    lesson.model.save_pretrained(tmp_path)
    names = ["text_encoder", "text_encoder_2"][: len(lesson.model.encoders)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_an_encoder_of_too_few_layers_is_refused(make_bench, shallow_sdxl_teacher):
    with pytest.raises(InputError, match=r"more than 2 layers, but got 2\. Leave `text_encoder`"):
        make(make_bench(shallow_sdxl_teacher))


def test_pooled_states_are_as_of_one_token(xl):
    encoders = TextEncoders(xl.teacher.text_encoders, xl=True)
    with torch.no_grad():
        found = encoders(module.tokenize(xl.teacher, ["a", "b"]))
    assert [tuple(one.shape) for one in found] == [(2, 24, 32), (2, 24, 48), (2, 1, 32)]
