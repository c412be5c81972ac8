import math

import pytest
import torch
from fixtures.unets import THREE
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from edgekd.diffusion.taps import AttentionTap
from edgekd.distill.terms import attention_transfer as module
from edgekd.distill.terms.attention_transfer import (
    Choice,
    Logits,
    attention_distance,
    chosen_layers,
    divergence,
    probabilities,
    relation,
    relation_heads,
)
from edgekd.distill.terms.self_attention import TERM
from edgekd.distill.terms.term import Forward, Tapped
from edgekd.errors import InputError
from edgekd.recipe_losses import LossSection
from edgekd.student.arch import StageArch, StudentArch

ALL = Choice(seed=0, queries=10**6, temperature=1.0)


def tap(
    seed: int, heads: int, size: int, tokens: int = 12, keys: int | None = None, batch: int = 2
):
    source = torch.Generator().manual_seed(seed)
    width, keys = heads * size, tokens if keys is None else keys
    shapes = [(batch, n, width) for n in (tokens, keys, keys)]
    q, k, v = (torch.randn(shape, generator=source, dtype=torch.float64) for shape in shapes)
    return AttentionTap(q, k, v, heads, size**-0.5)


def logits(attention: AttentionTap) -> torch.Tensor:
    """All of `q k^T / sqrt(d)`, [B, heads, Q, K]."""
    q, k = (x.unflatten(2, (attention.heads, -1)) for x in (attention.q, attention.k))
    return torch.einsum("bqhd,bkhd->bhqk", q, k) * attention.scale


@pytest.mark.parametrize("temperature", [1.0, 2.0, 7.0])
def test_it_is_torchs_divergence_of_the_maps(temperature):
    """Against torch's own KL of whole maps: `batchmean` divides by the first dimension."""
    student, teacher = tap(0, heads=2, size=4, keys=5), tap(1, heads=2, size=4, keys=5)
    softened = [
        torch.log_softmax(logits(a) / temperature, -1).flatten(0, 2) for a in (student, teacher)
    ]
    divergence_of_maps = nn.functional.kl_div(*softened, reduction="batchmean", log_target=True)
    choice = Choice(0, 10**6, temperature)
    value = attention_distance(Tapped(student, teacher), 0, choice)
    assert value.item() == pytest.approx(temperature**2 * divergence_of_maps.item(), rel=1e-9)


def test_a_warm_comparison_is_one_of_logits():
    """Hinton et al. 2015, section 2.1: half the variance of the logits' differences."""
    student, teacher = tap(0, 2, 4), tap(1, 2, 4)
    limit = (logits(teacher) - logits(student)).var(dim=-1, correction=0).mean() / 2
    value = attention_distance(Tapped(student, teacher), 0, Choice(0, 10**6, 1e4))
    assert value.item() == pytest.approx(limit.item(), rel=1e-3)


def test_heads_of_one_number_may_differ_in_width():
    student, teacher = tap(0, heads=2, size=3), tap(1, heads=2, size=4)
    rows = torch.arange(12)
    expected = divergence(probabilities(student, rows), probabilities(teacher, rows), 1.0)
    assert attention_distance(Tapped(student, teacher), 0, ALL).equal(expected)


def test_heads_of_other_numbers_are_compared_by_relations():
    student, teacher = tap(0, heads=3, size=4), tap(1, heads=4, size=4)
    assert relation_heads(student, teacher) == 4
    expected = []
    for ours, theirs in zip(
        (student.q, student.k, student.v), (teacher.q, teacher.k, teacher.v), strict=True
    ):
        logs = []
        for x, size in ((ours, 3), (theirs, 4)):
            heads = x.unflatten(2, (4, size)).transpose(1, 2)
            logs.append(torch.log_softmax(heads @ heads.mT / math.sqrt(size), -1).flatten(0, 2))
        expected.append(nn.functional.kl_div(*logs, reduction="batchmean", log_target=True))
    value = attention_distance(Tapped(student, teacher), 0, ALL)
    assert value.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-9)


@pytest.mark.parametrize(
    ("ours", "theirs", "heads"), [((5, 40), (8, 40), 8), ((6, 8), (10, 8), 8), ((1, 7), (3, 5), 1)]
)
def test_relation_heads_divide_both_widths(ours, theirs, heads):
    assert relation_heads(tap(0, *ours), tap(1, *theirs)) == heads


def test_relations_of_cross_attention_have_their_own_lengths():
    student, teacher = tap(0, 3, 4, tokens=12, keys=5), tap(1, 4, 4, tokens=12, keys=5)
    assert attention_distance(Tapped(student, teacher), 0, Choice(0, 4, 1.0)).item() > 0


def test_relations_do_not_depend_on_the_sign_of_a_projection():
    student, teacher = tap(0, 3, 4), tap(1, 4, 4)
    turned = AttentionTap(-student.q, -student.k, -student.v, 3, student.scale)
    value = attention_distance(Tapped(student, teacher), 0, ALL)
    assert attention_distance(Tapped(turned, teacher), 0, ALL).equal(value)


def test_sampled_queries_are_whole_rows_of_the_map():
    student, teacher = tap(0, 2, 4, tokens=40), tap(1, 2, 4, tokens=40)
    choice = Choice(seed=5, queries=8, temperature=1.0)
    rows = choice.rows(40, 0, torch.device("cpu"))
    assert len(set(rows.tolist())) == 8
    assert rows.tolist() == sorted(rows.tolist())
    expected = divergence(probabilities(student, rows), probabilities(teacher, rows), 1.0)
    assert attention_distance(Tapped(student, teacher), 0, choice).equal(expected)
    whole = [
        attention_distance(Tapped(student, teacher), 0, Choice(seed, 8, 1.0)).item()
        for seed in range(200)
    ]
    mean = attention_distance(Tapped(student, teacher), 0, ALL).item()
    assert sum(whole) / 200 == pytest.approx(mean, rel=0.02)


def test_what_is_chosen_depends_on_the_step_and_the_layer_only():
    def rows(seed: int, layer: int) -> list[int]:
        return Choice(seed, 8, 1.0).rows(40, layer, torch.device("cpu")).tolist()

    assert rows(1, 0) == rows(1, 0)
    assert rows(1, 0) != rows(2, 0)
    assert rows(1, 0) != rows(1, 1)
    assert chosen_layers(9, 2, 1) == chosen_layers(9, 2, 1)
    assert chosen_layers(2, 5, 1) == [0, 1]
    assert {layer for seed in range(40) for layer in chosen_layers(9, 2, seed)} == set(range(9))


def test_a_step_compares_its_layers_alone():
    pairs = [Tapped(tap(n, 2, 4), tap(9 + n, 2, 4)) for n in range(4)]
    options = LossSection(attention_layers=2)
    zeros = torch.zeros(1)
    forward = Forward(zeros, zeros, zeros, zeros, pairs, choice=7, options=options)
    choice = Choice(7, options.attention_queries, options.attention_temperature)
    chosen = [attention_distance(pairs[n], n, choice) for n in chosen_layers(4, 2, 7)]
    assert TERM(forward).equal(torch.stack(chosen).mean())


class Allocations(TorchDispatchMode):
    """Elements of the largest tensor that any operation makes, and of all that autograd keeps."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return result


def test_no_whole_map_is_ever_held(monkeypatch):
    """SD 1.5's self-attention at 64x64 latents, with narrow heads; forward and backward."""
    monkeypatch.setattr(module, "CHUNK", 2**18)
    heads, tokens, queries = 8, 4096, 32
    shape = (1, tokens, heads * 2)
    student, teacher = (
        AttentionTap(*(torch.randn(shape) for _ in range(3)), heads, 0.5) for _ in range(2)
    )
    for projection in (student.q, student.k, student.v):
        projection.requires_grad_()
    kept = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with Allocations() as seen:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            value = attention_distance(Tapped(student, teacher), 0, Choice(0, queries, 1.0))
        value.backward()
    assert seen.largest <= 2**18 < heads * queries * tokens
    # Between the passes there are no probabilities at all.
    assert max(kept, default=0) <= heads * tokens * 2
    assert student.q.grad is not None
    assert int((student.q.grad.abs().sum(dim=2) > 0).sum()) == queries


def test_parts_give_what_the_whole_gives(monkeypatch):
    student, teacher = tap(0, 4, 4), tap(1, 4, 4)
    results = []
    for chunk in (2**23, 3 * 12 * 12, 1):
        monkeypatch.setattr(module, "CHUNK", chunk)
        student.q.grad = None
        student.q.requires_grad_()
        value = attention_distance(Tapped(student, teacher), 0, ALL)
        value.backward()
        results.append((value.item(), student.q.grad.clone()))
    for value, gradient in results[1:]:
        assert value == pytest.approx(results[0][0], rel=1e-12)
        assert torch.allclose(gradient, results[0][1], rtol=1e-9)


def test_logits_far_apart_stay_finite():
    """Probabilities underflow here; their logarithms must not."""
    a = torch.tensor([[[300.0]]], requires_grad=True)
    b = torch.tensor([[[1.0], [-1.0]]])
    value = divergence(Logits(a, b, 1.0), Logits(-a.detach(), b, 1.0), 1.0)
    value.backward()
    assert value.item() == pytest.approx(600.0)
    assert a.grad is not None
    assert a.grad.isfinite().all()


def test_a_relation_is_one_of_a_token_to_all():
    projection = tap(0, 2, 6).q
    rows = torch.tensor([1, 4])
    logits = relation(projection, 4, rows)
    assert logits.a.shape == (8, 2, 3)
    assert logits.b.shape == (8, 12, 3)
    assert logits.scale == pytest.approx(3**-0.5)


def test_other_tokens_and_features_are_refused():
    with pytest.raises(ValueError, match="queries and keys differ in number"):
        attention_distance(Tapped(tap(0, 2, 4), tap(1, 2, 4, tokens=6)), 0, ALL)
    with pytest.raises(TypeError, match="attn1"):
        Tapped(torch.zeros(1), torch.zeros(1)).attentions()


def test_a_student_without_attention_is_refused():
    bare = {"down_transformers": ((), ()), "up_transformers": ((), (), ())}
    arch = StudentArch(stages=(*(StageArch(**bare),) * 2, StageArch()), mid=False)
    with pytest.raises(InputError, match="must have a student that attends"):
        TERM.pairs(arch, THREE)
