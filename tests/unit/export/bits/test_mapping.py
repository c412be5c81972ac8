import numpy as np
import pytest
import torch
from torch import nn

from edgekd.errors import GateError
from edgekd.export.bits.mapping import ContentMap


@pytest.fixture
def model() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(6, 4), nn.Linear(6, 4), nn.Conv2d(2, 3, 3), nn.Linear(4, 4))


def numbers(model: nn.Module, index: int) -> np.ndarray:
    return model[index].weight.detach().numpy()


def test_weight_is_found_as_it_is_and_transposed(model):
    content = ContentMap(model, {"0.weight": 4, "2.weight": 6})
    assert content.find(numbers(model, 0)) == 4
    assert content.find(numbers(model, 0).T) == 4
    assert content.find(numbers(model, 2)) == 6
    assert content.find(numbers(model, 1)) is None
    assert content.find(numbers(model, 0).reshape(3, 8)) is None
    assert content.names(numbers(model, 0).T) == {"0.weight"}


@pytest.mark.parametrize(
    ("bits", "expected"),
    [
        ({"0.weight": 4, "1.weight": 6}, 6),
        ({"1.weight": 6, "0.weight": 8}, 8),
        ({"0.weight": 4}, None),
    ],
)
def test_equal_weights_get_the_most_bits(model, bits, expected):
    with torch.no_grad():
        model[1].weight.copy_(model[0].weight)
    content = ContentMap(model, bits)
    assert content.find(numbers(model, 0)) == expected
    assert content.names(numbers(model, 0)) == set(bits)
    assert content.missing([numbers(model, 0)], "unet") == []


def test_fused_weights_fail_but_a_small_one_may_be_missing(model):
    large = nn.Sequential(nn.Linear(100, 100), nn.Linear(10, 10))
    content = ContentMap(large, {"0.weight": 4, "1.weight": 4})
    assert content.missing([numbers(large, 0)], "unet") == ["1.weight"]
    content = ContentMap(model, {"0.weight": 4, "3.weight": 4})
    with pytest.raises(GateError, match=r"converted unet must hold .* 1 missing: 3\.weight"):
        content.missing([numbers(model, 0)], "unet")
