import pytest

from edgekd.distill.balance import Balance, hint_factor, initial_scales


def test_scales_are_inverse_means_and_leave_zeros_alone():
    values = [
        {"task": 1.0, "feature": 4.0, "output": 0.0},
        {"task": 3.0, "feature": 4.0, "output": 0.0},
    ]
    assert initial_scales(values) == {"task": 0.5, "feature": 0.25, "output": 1.0}


def test_hints_fall_by_a_half_cosine_and_stay_at_zero():
    assert [hint_factor(p, 0.5) for p in (0.0, 0.25, 0.5, 0.75)] == pytest.approx([1, 0.5, 0, 0])
    assert hint_factor(0.9, None) == 1.0


def test_weights_scales_and_hints_multiply():
    balance = Balance(
        {"output": 2.0, "feature": 3.0}, frozenset({"feature"}), 1.0, {"feature": 4.0}
    )
    assert balance.at(0.0) == {"output": 2.0, "feature": 12.0}
    assert balance.at(0.5) == pytest.approx({"output": 2.0, "feature": 6.0})
    assert list(balance.at(1.0)) == ["output", "feature"]
