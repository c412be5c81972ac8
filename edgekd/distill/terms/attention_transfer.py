"""Attention probabilities of the student against the teacher's, at a distillation temperature.

A whole self-attention map of SD 1.5 at 64x64 latents, [8, 4096, 4096] in fp32, is 0.54 GB for
one sample and layer. So a step compares some layers only, of each a sample of queries (each with
all of its keys), and never holds more than `CHUNK` probabilities of each side at once: none are
left for the backward pass.

Shapes: B batch, H heads, N = B * H, Q queries, K keys, d channels of a head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from edgekd.diffusion.taps import AttentionTap
from edgekd.distill.terms.floats import exact
from edgekd.distill.terms.term import Forward, TapPair, Tapped
from edgekd.errors import InputError
from edgekd.student.arch import StudentArch
from edgekd.student.pairs import AttentionKind, attention_pairs
from edgekd.training.draws import generator

# 4 MiB in fp32, one head of 256 queries at 64x64 latents: it stays in a CPU's cache.
CHUNK = 2**20


@dataclass(frozen=True)
class Logits:
    """`z = scale * a b^T`, not multiplied out.

    Attributes:
        a: [N, Q, d].
        b: [N, K, d].
        scale: `d ** -0.5`.
    """

    a: Tensor
    b: Tensor
    scale: float

    def over(self, temperature: float, part: slice = slice(None)) -> Tensor:
        """`log softmax(z / temperature)` over the keys, [n, Q, K]."""
        z = self.a[part] @ self.b[part].transpose(1, 2)
        return torch.log_softmax(z * (self.scale / temperature), dim=-1)


class _SummedDivergence(torch.autograd.Function):
    """`sum KL(softmax(z_T / t) || softmax(z_S / t))` over heads and queries.

    With `z_S = s a b^T` the gradient is `dKL/dz_S = (softmax(z_S / t) - softmax(z_T / t)) / t`.
    It is multiplied out with a and b while the probabilities are there, so that only gradients
    of the size of a and b stay for the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, scale: float, teacher: Logits, temperature: float
    ) -> Tensor:
        student = Logits(a, b, scale)
        total, into_a, into_b = a.new_zeros(()), torch.empty_like(a), torch.empty_like(b)
        heads = max(1, CHUNK // (a.shape[1] * b.shape[1]))
        for first in range(0, len(a), heads):
            part = slice(first, first + heads)
            target, ours = teacher.over(temperature, part), student.over(temperature, part)
            wanted = target.exp()
            total += (target.sub_(ours).mul_(wanted)).sum()
            slope = ours.exp_().sub_(wanted).mul_(scale / temperature)
            into_a[part] = slope @ b[part]
            into_b[part] = slope.transpose(1, 2) @ a[part]
        ctx.save_for_backward(into_a, into_b)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        into_a, into_b = ctx.saved_tensors
        return into_a * gradient, into_b * gradient, None, None, None


def divergence(student: Logits, teacher: Logits, temperature: float) -> Tensor:
    """`t^2 KL(softmax(z_T / t) || softmax(z_S / t))`, mean over heads and queries.

    Hinton et al. 2015, section 2: gradients of softened targets fall as `1 / t^2`; the factor
    keeps them of one size. For large t this is half the variance over the keys of
    `z_T - z_S`: the match of logits of section 2.1.

    Args:
        student: N heads, Q queries and K keys like the teacher's; d may differ.
        teacher: no gradient goes into it.
    """
    heads, queries = student.a.shape[:2]
    fixed = Logits(teacher.a.detach(), teacher.b.detach(), teacher.scale)
    total: Tensor = _SummedDivergence.apply(  # type: ignore[no-untyped-call]
        student.a, student.b, student.scale, fixed, temperature
    )
    return temperature**2 * total / (heads * queries)


def split_heads(projection: Tensor, heads: int) -> Tensor:
    """[B, N, heads * d] -> [B * heads, N, d], in fp32 at least."""
    batch, length, _ = projection.shape
    heads_first = exact(projection).reshape(batch, length, heads, -1).transpose(1, 2)
    return heads_first.reshape(batch * heads, length, -1)


def probabilities(attention: AttentionTap, rows: Tensor) -> Logits:
    """The attention itself, `z = q k^T / sqrt(d)`, for some of its queries."""
    q = split_heads(attention.q[:, rows], attention.heads)
    return Logits(q, split_heads(attention.k, attention.heads), attention.scale)


def relation(projection: Tensor, heads: int, rows: Tensor) -> Logits:
    """How tokens relate in one projection, `z = p p^T / sqrt(d_r)`, for some of them.

    MiniLMv2 (Wang et al. 2021, equations 5 to 7): the projection is split anew into relation
    heads of width d_r, so that their number does not depend on the attention's.
    """
    whole = split_heads(projection, heads)
    return Logits(whole[:, rows], whole, whole.shape[-1] ** -0.5)


def relation_heads(student: AttentionTap, teacher: AttentionTap) -> int:
    """The most heads, up to the teacher's, that both widths can be split into."""
    common = math.gcd(student.q.shape[-1], teacher.q.shape[-1])
    return max(n for n in range(1, teacher.heads + 1) if common % n == 0)


@dataclass(frozen=True)
class Choice:
    """What one step compares.

    Attributes:
        seed: of the step.
        queries: at most so many rows of each map.
        temperature: of both sides.
    """

    seed: int
    queries: int
    temperature: float

    def rows(self, length: int, layer: int, device: torch.device) -> Tensor:
        """Random rows of a layer's maps, the same for all samples and heads, rising."""
        if length <= self.queries:
            return torch.arange(length, device=device)
        source = generator(self.seed, "attention rows", layer)
        chosen = torch.randperm(length, generator=source)[: self.queries]
        return chosen.sort().values.to(device)


def attention_distance(tapped: Tapped, layer: int, choice: Choice) -> Tensor:
    """Distance of one attention of the student from the teacher's.

    Heads of one number are compared one by one, whatever their width. Else the mean over the
    relations of queries, keys and values is taken.

    Raises:
        ValueError: tokens that differ in number.
    """
    student, teacher = tapped.attentions()
    lengths = [(tap.q.shape[1], tap.k.shape[1]) for tap in (student, teacher)]
    if lengths[0] != lengths[1]:
        raise ValueError(f"queries and keys differ in number: {lengths[0]}, {lengths[1]}")
    (queries, keys), device = lengths[0], student.q.device
    if student.heads == teacher.heads:
        rows = choice.rows(queries, layer, device)
        pairs = [(probabilities(student, rows), probabilities(teacher, rows))]
    else:
        heads = relation_heads(student, teacher)
        pairs = []
        for name, length in (("q", queries), ("k", keys), ("v", keys)):
            rows = choice.rows(length, layer, device)
            ours, theirs = getattr(student, name), getattr(teacher, name)
            pairs.append((relation(ours, heads, rows), relation(theirs, heads, rows)))
    return torch.stack([divergence(*pair, choice.temperature) for pair in pairs]).mean()


def attention_transfer(forward: Forward) -> Tensor:
    """Mean of `attention_distance` over the layers of this step."""
    options = forward.options
    choice = Choice(forward.choice, options.attention_queries, options.attention_temperature)
    layers = chosen_layers(len(forward.tapped), options.attention_layers, forward.choice)
    return torch.stack([attention_distance(forward.tapped[n], n, choice) for n in layers]).mean()


def chosen_layers(count: int, most: int, seed: int) -> Sequence[int]:
    """At most so many of `count` layers, at random: all of them get their turn."""
    chosen: list[int] = torch.randperm(
        count, generator=generator(seed, "attention layers", 0)
    ).tolist()
    return sorted(chosen[:most])


def attention_layers(
    arch: StudentArch, teacher_config: Mapping[str, Any], kind: AttentionKind
) -> list[TapPair]:
    """Every attention of a kind in the student, with the one that its weights came from.

    Raises:
        InputError: there is none.
    """
    pairs = attention_pairs(arch, teacher_config, kind)
    if not pairs:
        raise InputError("a term that compares attention must have a student that attends", "none")
    return [TapPair(ours, theirs) for theirs, ours in pairs]
