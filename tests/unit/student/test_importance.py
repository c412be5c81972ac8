"""Importance of weights: the formulas, the sum over batches, and no trace left on the model."""

import pytest
import torch
from torch import nn

from edgekd.student.importance import magnitude_importance, taylor_importance, taylor_term


def test_magnitude_is_the_absolute_value():
    state = {"w": torch.tensor([-2.0, 0.5], dtype=torch.float16)}
    assert magnitude_importance(state)["w"].tolist() == [2.0, 0.5]
    assert magnitude_importance(state)["w"].dtype == torch.float32


def test_taylor_term_is_the_change_of_a_linear_loss():
    """For a loss linear in the weights, zeroing weight i changes it by exactly this much."""
    weight, x = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([4.0, 5.0, -6.0])
    term = taylor_term(weight, x)
    for i in range(3):
        without = weight.clone()
        without[i] = 0
        assert term[i] == abs((without * x).sum() - (weight * x).sum())


def test_taylor_importance_adds_up_over_batches():
    model = nn.Linear(3, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0, 0.5]]))
    batches = [torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[-1.0, 2.0, 0.0]])]

    def loss(batch):
        return torch.as_tensor(model(batch).sum())

    total = taylor_importance(model, loss, iter(batches))
    # |w x| per batch, then summed: 1 + 1, 2 + 4, 0. Signs do not cancel.
    assert total["weight"].tolist() == [[2.0, 6.0, 0.0]]
    assert total["bias"].item() == pytest.approx(2 * abs(model.bias.item()))


def test_frozen_teachers_stay_frozen_and_without_gradients():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)).requires_grad_(False)
    model[1].bias.requires_grad_(True)
    with torch.no_grad():
        taylor_importance(model, lambda batch: model(batch).sum(), [torch.ones(1, 2)])
    assert [p.requires_grad for p in model.parameters()] == [False, False, False, True]
    assert all(p.grad is None for p in model.parameters())


def test_unused_weights_have_no_importance():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    total = taylor_importance(model, lambda batch: model[0](batch).sum(), [torch.ones(1, 2)])
    assert total["1.weight"].abs().sum() == 0
    assert total["0.weight"].abs().sum() > 0


def test_no_batch_and_no_number_are_errors():
    model = nn.Linear(2, 1).requires_grad_(False)
    with pytest.raises(ValueError, match="at least one batch"):
        taylor_importance(model, lambda batch: model(batch).sum(), [])
    with pytest.raises(ValueError, match="one finite number"):
        taylor_importance(
            model, lambda batch: model(batch).sum() * float("nan"), [torch.ones(1, 2)]
        )
    with pytest.raises(ValueError, match="one finite number"):
        taylor_importance(model, model, [torch.ones(3, 2)])
    assert not any(p.requires_grad for p in model.parameters())
