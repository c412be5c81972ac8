from functools import partial
from typing import Any

import pytest
import torch
from fixtures.unets import FOUR
from torch import nn

from edgekd.errors import InputError
from edgekd.training.compiled import compiled

SMALL = {
    **FOUR,
    "block_out_channels": (16, 32),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}


@pytest.fixture
def backend(monkeypatch) -> list[Any]:
    """Compiles to what it was, which is fast: what is tested is what surrounds the kernels."""
    graphs: list[Any] = []

    def keep(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=keep))
    return graphs


def test_a_compiled_unet_is_tapped_and_named_as_before(make_unet, backend):
    from edgekd.diffusion.taps import Taps

    unet = make_unet(**SMALL).requires_grad_(True)
    inputs = torch.randn(2, 4, 8, 8), torch.tensor([10, 500]), torch.randn(2, 5, 8)
    points = ["mid_block", "up_blocks.1.attentions.0.transformer_blocks.0.attn2", "prediction"]
    names, found = list(unet.state_dict()), []
    for on in (False, True):
        unet.zero_grad()
        with Taps(unet, points) as taps, compiled(*[unet][: int(on)]):
            for _ in range(2):
                unet(*inputs)
            sums = [taps.features(points[0]), taps.attention(points[1]).q, taps.features(points[2])]
            loss = torch.stack([value.square().mean() for value in sums]).sum()
            loss.backward()
            assert list(unet.state_dict()) == names
        found.append([loss.detach(), *[p.grad.clone() for p in unet.parameters()]])
    # One for the whole U-Net: hooks inside do not cut it into pieces.
    assert len(backend) == 1
    assert "forward" not in vars(unet)
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_machine_that_cannot_compile_is_told_so(monkeypatch):
    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no compiler\nhere")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=broken))
    model = nn.Linear(2, 2)
    with pytest.raises(InputError, match="C\\+\\+ compiler") as error, compiled(model):
        model(torch.ones(1, 2))
    assert "\n" not in str(error.value)
    assert "forward" not in vars(model)
