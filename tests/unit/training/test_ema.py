import pytest
import torch
from torch import nn

from edgekd.training.ema import Ema, decay_at


def _layer(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


def test_decay_grows_to_its_limit():
    assert decay_at(0, 0.995) == pytest.approx(0.1)
    assert decay_at(90, 0.995) == pytest.approx(0.91)
    assert decay_at(10_000, 0.995) == 0.995


def test_starts_as_the_student_and_follows_the_formula():
    model = _layer(2.0)
    ema = Ema(model, 0.995)
    assert ema.model.weight.item() == 2.0
    nn.init.constant_(model.weight, 3.0)
    assert ema.model.weight.item() == 2.0
    ema.update(model, 0)
    assert ema.model.weight.item() == pytest.approx(0.1 * 2.0 + 0.9 * 3.0)
    ema.update(model, 10_000)
    assert ema.model.weight.item() == pytest.approx(0.995 * 2.9 + 0.005 * 3.0)


def test_no_decay_copies_exactly():
    model = _layer(2.0)
    ema = Ema(model, 0.0)
    nn.init.constant_(model.weight, 0.1)
    ema.update(model, 7)
    assert torch.equal(ema.model.weight, model.weight)


def test_average_is_frozen():
    assert not any(p.requires_grad for p in Ema(_layer(1.0), 0.9).model.parameters())
