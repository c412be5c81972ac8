import pytest
import torch

from edgekd.distill.terms.squared_error import weighted_mse


def test_weighted_mse_weighs_samples():
    prediction = torch.stack([torch.full((1, 2, 2), 1.0), torch.full((1, 2, 2), 3.0)])
    loss = weighted_mse(prediction, torch.zeros_like(prediction), torch.tensor([1.0, 0.5]))
    assert loss.item() == pytest.approx((1.0 * 1 + 0.5 * 9) / 2)


def test_no_gradient_goes_into_targets():
    a, b = (torch.randn(2, 3, 4, 4, requires_grad=True) for _ in range(2))
    weighted_mse(a, b, torch.ones(2)).backward()
    assert a.grad is not None
    assert b.grad is None


def test_bf16_tensors_are_compared_in_fp32():
    a = torch.randn(1, 2, 4, 4).bfloat16()
    assert weighted_mse(a, a, torch.ones(1)).dtype == torch.float32
