"""Taps: record what happens inside a U-Net, without editing it.

A *point* is a place in the U-Net, named by its module path:

- `conv_in`, `down_blocks.0`, `mid_block`, `up_blocks.2`, ... : a block's output,
- `down_blocks.0.resnets.1`, `down_blocks.0.attentions.1`, ... : a layer's output,
- `down_blocks.0.attentions.1.transformer_blocks.0.attn2`, ... : an attention, as an
  `AttentionTap` (`attn1` looks at the image, `attn2` at the text),
- `prediction`: the U-Net's output.

Shapes: B batch, [B, C, h, w] feature maps, [B, Q, heads * d] queries, [B, K, heads * d] keys
and values.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn

from edgekd.diffusion.load import Teacher
from edgekd.diffusion.weights import save_tensors
from edgekd.errors import InputError

PREDICTION = "prediction"
_NAMED = ("conv_in", "mid_block", "attn1", "attn2")
_LISTS = ("down_blocks", "up_blocks", "resnets", "attentions")
_PROJECTIONS = ("to_q", "to_k", "to_v")


@dataclass(frozen=True)
class AttentionTap:
    """Projections of one attention in one forward pass.

    Attributes:
        q: [B, Q, heads * d].
        k: [B, K, heads * d].
        v: [B, K, heads * d].
        heads: number of heads.
        scale: factor of the logits, `d ** -0.5`.
    """

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    heads: int
    scale: float

    def maps(self) -> torch.Tensor:
        """Attention probabilities [B, heads, Q, K] in fp32: `softmax(q k^T * scale)`."""
        q, k = self._split(self.q), self._split(self.k)
        return torch.softmax(q @ k.transpose(-1, -2) * self.scale, dim=-1)

    def _split(self, projection: torch.Tensor) -> torch.Tensor:
        """[B, N, heads * d] -> [B, heads, N, d] in fp32."""
        batch, length, _ = projection.shape
        return projection.float().reshape(batch, length, self.heads, -1).transpose(1, 2)


TapValue = torch.Tensor | AttentionTap


def unwrap(model: nn.Module) -> nn.Module:
    """The U-Net inside wrappers that keep it as `module` (DistributedDataParallel)."""
    wrapped = getattr(model, "module", None)
    return unwrap(wrapped) if isinstance(wrapped, nn.Module) else model


def list_points(unet: nn.Module) -> list[str]:
    """All points of a U-Net, in the order of its modules, `prediction` last."""
    return [*_point_modules(unwrap(unet)), PREDICTION]


def _point_modules(unet: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in unet.named_modules() if _is_point(name)}


def _is_point(name: str) -> bool:
    above, _, leaf = f".{name}".rpartition(".")
    return leaf in _NAMED or above.rpartition(".")[2] in _LISTS


def output_tensor(output: Any) -> torch.Tensor:
    """The feature map of a module's output: itself, `.sample`, or the first of a tuple."""
    if isinstance(output, torch.Tensor):
        return output
    first = output[0]
    if not isinstance(first, torch.Tensor):
        raise TypeError(f"no tensor first in {type(output).__name__}")
    return first


class Taps:
    """Context manager that records points of every forward pass inside it.

    ```
    with Taps(unet, ["mid_block", "prediction"]) as taps:
        unet(latents, timesteps, encoder_hidden_states)
    taps["mid_block"]  # [B, C, h, w]
    ```

    Values are the module's own tensors, with their gradient history; the last
    forward pass wins. The model's output is unchanged, and no hook stays after
    the block. Recomputation by gradient checkpointing is not recorded: it runs
    in the backward pass, outside the U-Net's forward.

    Args:
        unet: a `UNet2DConditionModel`, or a wrapper with it as `module`.
        points: names from `list_points`.

    Raises:
        InputError: an unknown point.
    """

    def __init__(self, unet: nn.Module, points: Sequence[str]) -> None:
        self._unet = unwrap(unet)
        known = _point_modules(self._unet)
        for point in points:
            if point != PREDICTION and point not in known:
                raise _unknown_point(point, [*known, PREDICTION])
        self.points = tuple(points)
        self._modules = {p: known[p] for p in points if p != PREDICTION}
        self._values: dict[str, torch.Tensor] = {}
        self._recording = False
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> Taps:
        self._handles.append(self._unet.register_forward_pre_hook(self._start))
        for point, module in self._modules.items():
            if _is_attention(module):
                for leaf in _PROJECTIONS:
                    projection = module.get_submodule(leaf)
                    self._handles.append(
                        projection.register_forward_hook(self._recorder(f"{point}.{leaf}"))
                    )
            else:
                self._handles.append(module.register_forward_hook(self._recorder(point)))
        # always_call: a forward that fails must not leave recording on.
        self._handles.append(self._unet.register_forward_hook(self._stop, always_call=True))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __getitem__(self, point: str) -> TapValue:
        """The last recorded value of a point.

        Raises:
            KeyError: the point was not asked for, or the U-Net has not run inside the block.
        """
        module = self._modules.get(point)
        if module is not None and _is_attention(module):
            q, k, v = (self._values[f"{point}.{leaf}"] for leaf in _PROJECTIONS)
            attention: Any = module
            return AttentionTap(q, k, v, attention.heads, attention.scale)
        return self._values[point]

    def features(self, point: str) -> torch.Tensor:
        """The recorded tensor of a point that is no attention."""
        return self._values[point]

    def attention(self, point: str) -> AttentionTap:
        """The recorded attention of an `attn1` or `attn2` point."""
        value = self[point]
        if not isinstance(value, AttentionTap):
            raise KeyError(f"{point} is no attention")
        return value

    def _start(self, module: nn.Module, args: Any) -> None:
        del module, args
        self._values.clear()
        self._recording = True

    def _stop(self, module: nn.Module, args: Any, output: Any) -> None:
        del module, args
        self._recording = False
        if PREDICTION in self.points and output is not None:
            self._values[PREDICTION] = output_tensor(output)

    def _recorder(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def record(module: nn.Module, args: Any, output: Any) -> None:
            del module, args
            if self._recording:
                self._values[name] = output_tensor(output)

        return record


def _is_attention(module: nn.Module) -> bool:
    return all(hasattr(module, leaf) for leaf in _PROJECTIONS)


def _unknown_point(point: str, known: list[str]) -> InputError:
    close = difflib.get_close_matches(point, known, n=3, cutoff=0.5)
    fix = f"Close names: {', '.join(close)}." if close else f"One is {known[0]}."
    return InputError("a tap must be a point of the U-Net", repr(point), fix)


@torch.no_grad()
def record_embeddings(
    teacher: Teacher,
    latents: torch.Tensor,
    timesteps: torch.Tensor,
    encoder_hidden_states: torch.Tensor,
    points: Sequence[str],
    added: Mapping[str, torch.Tensor] | None = None,
    path: Path | None = None,
) -> dict[str, torch.Tensor]:
    """The teacher's embeddings of noisy latents: one tensor for each point.

    Args:
        latents: [B, C, h, w], noisy and scaled.
        timesteps: [B].
        encoder_hidden_states: [B, L, D].
        points: names from `list_points`.
        added: SDXL's added conditions.
        path: also written there, as safetensors.

    Returns:
        [B, C, h, w] feature maps; attention maps [B, heads, Q, K] for attention points.

    Raises:
        InputError: an unknown point.
    """
    with Taps(teacher.unet, points) as taps:
        teacher.unet(latents, timesteps, encoder_hidden_states, added_cond_kwargs=dict(added or {}))
    embeddings = {}
    for point in taps.points:
        value = taps[point]
        embeddings[point] = value.maps() if isinstance(value, AttentionTap) else value
    if path is not None:
        save_tensors(embeddings, path)
    return embeddings
