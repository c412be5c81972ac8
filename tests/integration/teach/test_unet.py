"""Compiling the U-Net takes a compiler, which is another process."""

import pytest
import torch

from edgekd.errors import InputError
from edgekd.teach.unet import compiled


def _small_net() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 4))


def test_compiled_net_trains_the_same_weights():
    net, inputs = _small_net(), torch.linspace(-1, 1, 8).reshape(2, 4)
    net(inputs).square().sum().backward()
    expected = [parameter.grad.clone() for parameter in net.parameters()]
    net.zero_grad()
    compiled(net)(inputs).square().sum().backward()
    torch.testing.assert_close([parameter.grad for parameter in net.parameters()], expected)


def test_compiling_without_a_compiler_is_refused(monkeypatch, tmp_path):
    torch._dynamo.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # nothing compiled before
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (str(tmp_path / "none"),))
    with pytest.raises(InputError, match=r"`unet\.compile` needs a compiler that torch can use"):
        compiled(_small_net())(torch.zeros(2, 4))
