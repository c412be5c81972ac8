"""First weights of a narrow VAE: every convolution fitted to its teacher's by least squares.

Channel pruning by reconstruction (He, Zhang and Sun 2017, arXiv:1707.06168): with the kept
channels given, eq. (1) is a linear least-squares problem in the weights. Layers are fitted from
the input on, each on what the fitted layers before it give (their section 3.2, as the teacher's
own inputs would let errors add up); the last layer of a residual branch is fitted to what the sum
lacks (section 3.3). It takes some seconds and one batch; random weights need hundreds of training
steps to come as far.

Shapes: N samples, [N, C, h, w] activations; M sampled positions, k x k kernels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgekd.libraries import diffusers
from edgekd.training.draws import generator

# Positions that a layer is fitted on: tens for each of a kernel's hundreds of inputs.
POSITIONS = 30_000
# Share of the mean variance that is added to every input's: inputs that hardly vary get no
# large weights.
RIDGE = 1e-4


@dataclass
class _Walk:
    """Activations of teacher and student at one place.

    Attributes:
        teacher: [N, C, h, w].
        student: [N, c, h, w]; its channels stand for the teacher's first c.
    """

    teacher: Tensor
    student: Tensor


def build_narrow_vae(teacher: Any, config: Mapping[str, Any], latents: Tensor) -> Any:
    """A narrow VAE with fitted weights, trainable and in evaluation mode.

    Args:
        teacher: `AutoencoderKL`, in fp32; not changed.
        config: see `edgekd.student.decoder.narrow_vae_config`.
        latents: [N, C, h, w] unscaled, on the teacher's device; the decoder is fitted on them,
            the encoder on what the teacher decodes from them.
    """
    with torch.device("meta"):
        vae = diffusers.AutoencoderKL.from_config(dict(config))
    vae = vae.to_empty(device=teacher.device).to(torch.float32).eval()
    with torch.no_grad():
        for name in ("quant_conv", "post_quant_conv"):
            if getattr(vae, name) is not None:
                getattr(vae, name).load_state_dict(getattr(teacher, name).state_dict())
        inner = latents if vae.post_quant_conv is None else vae.post_quant_conv(latents)
        pictures = _fit_decoder(teacher.decoder, vae.decoder, inner)
        _fit_encoder(teacher.encoder, vae.encoder, pictures)
    return vae.requires_grad_(True)


def _fit_decoder(teacher: Any, student: Any, latents: Tensor) -> Tensor:
    """Fit it. Returns the teacher's pictures."""
    walk = _Walk(latents, latents)
    _fit_conv(walk, teacher.conv_in, student.conv_in)
    _fit_middle(walk, teacher.mid_block, student.mid_block)
    for block, narrow in zip(teacher.up_blocks, student.up_blocks, strict=True):
        _fit_resnets(walk, _segments(block.resnets, len(narrow.resnets)), narrow.resnets)
        for up, narrow_up in zip(block.upsamplers or (), narrow.upsamplers or (), strict=True):
            walk.teacher = up(walk.teacher)
            walk.student = F.interpolate(walk.student, scale_factor=2.0, mode="nearest")
            _fit_to(walk, narrow_up.conv)
    _fit_head(walk, teacher, student)
    return walk.teacher


def _fit_encoder(teacher: Any, student: Any, pictures: Tensor) -> None:
    walk = _Walk(pictures, pictures)
    _fit_conv(walk, teacher.conv_in, student.conv_in)
    for block, narrow in zip(teacher.down_blocks, student.down_blocks, strict=True):
        _fit_resnets(walk, _segments(block.resnets, len(narrow.resnets)), narrow.resnets)
        for down, narrow_down in zip(
            block.downsamplers or (), narrow.downsamplers or (), strict=True
        ):
            walk.teacher = down(walk.teacher)
            # As diffusers' Downsample2D pads.
            walk.student = F.pad(walk.student, (0, 1, 0, 1))
            _fit_to(walk, narrow_down.conv)
    _fit_middle(walk, teacher.mid_block, student.mid_block)
    _fit_head(walk, teacher, student)


def _segments(layers: Sequence[nn.Module], count: int) -> list[list[nn.Module]]:
    """The teacher's layers that each of `count` layers stands for; the last one for the rest."""
    rows = [[layer] for layer in layers[:count]]
    rows[-1] += layers[count:]
    return rows


def _fit_middle(walk: _Walk, teacher: Any, student: Any) -> None:
    """The first residual block stands for the attention after it too."""
    attention = [layer for layer in teacher.attentions if layer is not None]
    first, second = teacher.resnets
    _fit_resnets(walk, [[first, *attention], [second]], student.resnets)


def _fit_resnets(walk: _Walk, segments: list[list[nn.Module]], students: Sequence[Any]) -> None:
    for segment, student in zip(segments, students, strict=True):
        _fit_resnet(walk, segment, student)


def _fit_resnet(walk: _Walk, segment: Sequence[Any], student: Any) -> None:
    """One residual block, that stands for a segment of the teacher's which begins with one."""
    first, rest = segment[0], segment[1:]
    inner = first.conv1(F.silu(first.norm1(walk.teacher)))
    target = first(walk.teacher, None)
    for layer in rest:
        target = layer(target, None) if hasattr(layer, "conv1") else layer(target)
    _cut_norm(first.norm1, student.norm1)
    _cut_norm(first.norm2, student.norm2)
    hidden = F.silu(student.norm1(walk.student))
    _fit(student.conv1, hidden, inner)
    hidden = F.silu(student.norm2(student.conv1(hidden)))
    _fit_branches(student, hidden, walk.student, target)
    walk.teacher, walk.student = target, student(walk.student, None)


def _fit_branches(student: Any, hidden: Tensor, skipped: Tensor, target: Tensor) -> None:
    """The last convolution, and with it that of the shortcut, fitted to the sum."""
    channels = student.conv2.out_channels
    rows = _rows(hidden, student.conv2)
    y = _values(target, rows)[:, :channels]
    x = _patches(hidden, student.conv2, rows)
    shortcut = student.conv_shortcut
    if shortcut is None:
        weight, bias = least_squares(x, y - _values(skipped, rows))
        _set(student.conv2, weight, bias)
        return
    inputs = x.shape[1]
    weight, bias = least_squares(torch.cat([x, _values(skipped, rows)], dim=1), y)
    _set(student.conv2, weight[:, :inputs], bias)
    _set(shortcut, weight[:, inputs:], torch.zeros_like(bias))


def _fit_head(walk: _Walk, teacher: Any, student: Any) -> None:
    _cut_norm(teacher.conv_norm_out, student.conv_norm_out)
    walk.teacher = teacher.conv_out(F.silu(teacher.conv_norm_out(walk.teacher)))
    walk.student = F.silu(student.conv_norm_out(walk.student))
    _fit_to(walk, student.conv_out)


def _fit_conv(walk: _Walk, teacher: nn.Conv2d, student: nn.Conv2d) -> None:
    walk.teacher = teacher(walk.teacher)
    _fit_to(walk, student)


def _fit_to(walk: _Walk, student: nn.Conv2d) -> None:
    """Fit a convolution of the student's activations to where the teacher is already."""
    _fit(student, walk.student, walk.teacher)
    walk.student = student(walk.student)


def _cut_norm(teacher: nn.GroupNorm, student: nn.GroupNorm) -> None:
    channels = student.num_channels
    student.weight.copy_(teacher.weight[:channels])
    student.bias.copy_(teacher.bias[:channels])


def _fit(conv: nn.Conv2d, inputs: Tensor, target: Tensor) -> None:
    """Fit a convolution of inputs to the target's first channels."""
    rows = _rows(inputs, conv)
    x, y = _patches(inputs, conv, rows), _values(target, rows)[:, : conv.out_channels]
    _set(conv, *least_squares(x, y))


def _set(conv: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
    assert conv.bias is not None
    conv.weight.copy_(weight.reshape(conv.weight.shape))
    conv.bias.copy_(bias)


def least_squares(x: Tensor, y: Tensor, ridge: float = RIDGE) -> tuple[Tensor, Tensor]:
    """Ridge regression with an intercept: `y ≈ x weightᵀ + bias`.

    Args:
        x: [M, I].
        y: [M, O].
        ridge: of the mean variance of x, added to every variance.

    Returns:
        weight [O, I] and bias [O].
    """
    mean_x, mean_y = x.mean(dim=0), y.mean(dim=0)
    x, y = x - mean_x, y - mean_y
    # The normal equations square the condition number: they are solved in double.
    gram, moment = (x.T @ x).cpu().double(), (x.T @ y).cpu().double()
    gram.diagonal().add_(ridge * gram.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny))
    weight = torch.linalg.solve(gram, moment).T.to(x)
    return weight, mean_y - weight @ mean_x


def _rows(x: Tensor, conv: nn.Conv2d) -> tuple[Tensor, Tensor, Tensor]:
    """Random output positions of a convolution: sample, row and column, [M] each."""
    (kernel, *_), (stride, *_), pad = conv.kernel_size, conv.stride, _padding(conv)
    height, width = ((side + 2 * pad - kernel) // stride + 1 for side in x.shape[2:])
    count = len(x) * height * width
    chosen = torch.randperm(count, generator=generator(0, "positions", count))[:POSITIONS]
    chosen = chosen.to(x.device)
    return chosen // (height * width), chosen // width % height, chosen % width


def _values(x: Tensor, rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Activations at positions, [M, C]."""
    sample, row, column = rows
    return x[sample, :, row, column]


def _patches(x: Tensor, conv: nn.Conv2d, rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """What a convolution sees at output positions, [M, C k k] in the order of its weights."""
    sample, row, column = rows
    (kernel, *_), (stride, *_) = conv.kernel_size, conv.stride
    x = F.pad(x, (_padding(conv),) * 4)
    views = [
        x[sample, :, row * stride + i, column * stride + j]
        for i in range(kernel)
        for j in range(kernel)
    ]
    return torch.stack(views, dim=2).flatten(1)


def _padding(conv: nn.Conv2d) -> int:
    """Of a square kernel, the same on each side."""
    assert not isinstance(conv.padding, str)
    return conv.padding[0]
