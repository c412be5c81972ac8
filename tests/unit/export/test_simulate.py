"""Parts computed by torch in the arithmetic of a precision."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from edgekd.export.arithmetic import FINEST, Apart, Arithmetic, WeightRounding
from edgekd.export.capture import Capture
from edgekd.export.parity import snr_db
from edgekd.export.ranges import rounded_activation
from edgekd.export.record import Recording
from edgekd.export.simulate import (
    finest,
    margin_db,
    rounded_weight,
    simulated,
    simulated_floor,
)

RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.normal(size=(6, 8)).astype(np.float32)
X = RANDOM.normal(size=(4, 8)).astype(np.float32)


class Part(nn.Module):
    """sample [N,8] and a time -> [N,6]; the time must stay exact."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 6)
        with torch.no_grad():
            self.inner.weight.copy_(torch.from_numpy(WEIGHT))

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> tuple[torch.Tensor]:
        assert timestep.dtype == torch.float32
        return (self.inner(sample),)


@pytest.fixture
def capture() -> Capture:
    example = {"sample": torch.zeros(1, 8), "timestep": torch.zeros(())}
    return Capture("unet", Part().eval(), example, ("y",), {}, {})


def inputs(scale: float = 1.0) -> dict[str, np.ndarray]:
    return {"sample": scale * X, "timestep": np.float32(999)}


def test_integers_have_one_scale_for_each_channel_or_group():
    scale = np.abs(WEIGHT).max(axis=1, keepdims=True) / 127
    restored = rounded_weight(WEIGHT, WeightRounding(8))
    assert np.abs(restored - WEIGHT).max() <= scale.max() / 2 + 1e-6
    np.testing.assert_allclose(restored / scale, np.rint(restored / scale), atol=1e-4)
    grouped = rounded_weight(WEIGHT, WeightRounding(4, group=4)).reshape(12, 4)
    largest = np.abs(WEIGHT).reshape(12, 4).max(axis=1)
    np.testing.assert_allclose(np.abs(grouped).max(axis=1), largest, rtol=1e-6)
    assert np.array_equal(
        rounded_weight(WEIGHT, WeightRounding(4, group=5)),  # does not divide the inputs
        rounded_weight(WEIGHT, WeightRounding(4)),
    )


def test_integers_without_symmetry_keep_both_ends_of_a_group():
    shifted = WEIGHT + 10
    restored = rounded_weight(shifted, WeightRounding(4, symmetric=False))
    for end in (np.min, np.max):
        np.testing.assert_allclose(end(restored, axis=1), end(shifted, axis=1), rtol=1e-6)
    assert len(np.unique(restored[0])) <= 16


def test_a_runtimes_own_rounding_is_used():
    rounding = WeightRounding(3, rounded=lambda weight, bits: weight * 0 + bits)
    assert (rounded_weight(WEIGHT, rounding) == 3).all()


def test_rounded_activations_have_an_exact_zero():
    x = torch.tensor([-1.0, 0.0, 0.3, 3.0])
    rounded = rounded_activation(x, 2)  # steps of 4 / 3, and zero is the second of four codes
    assert rounded.tolist() == pytest.approx([-4 / 3, 0, 0, 8 / 3])
    positive = rounded_activation(torch.tensor([2.0, 8.0]), 8)
    assert positive[1] == 8
    assert rounded_activation(torch.zeros(3), 8).tolist() == [0, 0, 0]
    beyond = rounded_activation(torch.tensor([-9.0, 9.0]), 8, (-1.0, 3.0))
    assert beyond.tolist() == pytest.approx([-1.0, 3.0], abs=4 / 255)


@pytest.mark.parametrize("number", ["float16", "bfloat16"])
def test_a_number_is_what_torch_computes_in(capture, number):
    kind = getattr(torch, number)
    with simulated(capture, Arithmetic(number=number)) as run:
        found = run(inputs())["y"]
    module = Part().to(kind)
    module.inner.bias.data.copy_(capture.module.inner.bias)
    expected = module.inner(torch.from_numpy(X).to(kind)).float()
    np.testing.assert_array_equal(found, expected.detach().numpy())
    assert capture.module.inner.weight.dtype == torch.float32  # the part itself stays as it is
    np.testing.assert_array_equal(capture.module.inner.weight.detach(), WEIGHT)


def test_layers_that_are_kept_are_not_rounded(capture):
    rounding = WeightRounding(2)
    plain = capture.module.inner(torch.from_numpy(X)).detach().numpy()
    for kept, same in ((("inner",), True), ((), False)):
        arithmetic = Arithmetic(
            linear=rounding, activation_bits=2, activations=("linear",), kept=kept
        )
        with simulated(capture, arithmetic) as run:
            assert np.allclose(run(inputs())["y"], plain, atol=1e-6) is same


def test_float32_is_held_against_float64(capture):
    with simulated(capture, Arithmetic()) as run:
        found = run(inputs())["y"]
    inner = capture.module.inner.double()
    np.testing.assert_allclose(
        found, inner(torch.from_numpy(X).double()).detach().numpy(), rtol=1e-6
    )


def test_the_floor_is_the_worst_call_less_the_margin(capture):
    calls = [
        Recording(
            inputs(scale), {"y": capture.module.inner(scale * torch.from_numpy(X)).detach().numpy()}
        )
        for scale in (1.0, 1e-3)
    ]
    arithmetic = Arithmetic(linear=WeightRounding(4))
    with simulated(capture, arithmetic) as run:
        each = [snr_db(one.outputs["y"], run(one.inputs)["y"]) for one in calls]
    floor = simulated_floor(capture, calls, arithmetic)
    assert each[0] != pytest.approx(each[1])
    assert floor.db == pytest.approx(min(each) - margin_db(arithmetic))
    assert f"{min(each):.1f} dB" in floor.reason


def test_what_passes_the_range_of_float16_has_no_floor(capture):
    calls = [Recording(inputs(scale), {"y": X[:, :6]}) for scale in (1.0, 1e6)]
    assert simulated_floor(capture, calls, Arithmetic(number="float16")) is None
    assert simulated_floor(capture, calls[:1], Arithmetic(number="float16")) is not None


def test_the_finest_stages_of_a_unet_are_the_first_and_the_last():
    unet = nn.Module()
    unet.up_blocks = nn.ModuleList([nn.Linear(1, 1) for _ in range(3)])
    assert finest(unet) == ("down_blocks.0.", "up_blocks.2.")


def test_stored_weights_are_told_from_other_arithmetic():
    eight = WeightRounding(8)
    for stored in (Arithmetic(conv=eight), Arithmetic(stored="float16")):
        assert stored.stored_only
        assert not replace(stored, number="bfloat16").stored_only
        assert not replace(stored, activation_bits=8).stored_only
    for other in (WeightRounding(4), WeightRounding(8, group=32)):
        assert not Arithmetic(conv=eight, linear=other).stored_only
    assert not Arithmetic().stored_only


def test_layers_apart_have_weights_of_their_own():
    stages = ("down_blocks.0.", "up_blocks.2.")
    eight = WeightRounding(8)
    rules = (Apart(FINEST, kinds=("conv",)), Apart(rf"{FINEST}|\.time_embedding\.", eight))
    arithmetic = Arithmetic(linear=WeightRounding(7), kept=("conv_in",), apart=rules)

    def found(name: str, kind: str) -> Apart | None:
        return arithmetic.exception(name, kind, stages)

    assert found("unet.up_blocks.2.conv1", "conv").weight is None
    assert found("unet.up_blocks.2.to_q", "linear").weight is eight
    assert found("unet.time_embedding.linear_1", "linear").weight is eight
    assert found("unet.conv_in", "conv").weight is None
    assert found("unet.up_blocks.1.conv1", "conv") is None


class Block(nn.Module):
    """sample [N,4,h,w] -> the same: a shortcut whose input others read before it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_shortcut = nn.Conv2d(4, 4, 1)

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        before = sample.clone()
        return before + self.conv_shortcut(sample)


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Block()

    def forward(self, sample: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.block(sample),)


def test_calibrated_layers_round_inputs_and_outputs_to_the_recorded_ranges():
    module = Blocks().requires_grad_(False)
    capture = Capture("unet", module, {"sample": torch.zeros(1, 4, 2, 2)}, ("y",), {}, {})
    x = torch.from_numpy(RANDOM.normal(size=(1, 4, 2, 2)).astype(np.float32))
    y = module.block.conv_shortcut(x)
    recorded, wider = {"sample": x.numpy()}, {"sample": 10 * x.numpy()}

    def ends(value: torch.Tensor) -> tuple[float, float]:
        return float(value.min()), float(value.max())

    arithmetic = Arithmetic(activation_bits=2, calibrated=("conv",))
    with simulated(capture, arithmetic, [Recording(recorded, {})]) as run:
        found = run(wider)["y"]
    inside = rounded_activation(10 * x, 2, ends(x))
    outside = rounded_activation(module.block.conv_shortcut(inside), 2, ends(y))
    np.testing.assert_allclose(found, inside + outside, rtol=1e-5)
    np.testing.assert_array_equal(wider["sample"], 10 * x)  # a recording stays what it is


@pytest.mark.parametrize("stored", ["float32", "float16"])
def test_a_thrifty_simulation_gives_the_same_and_leaves_the_part_as_it_is(capture, stored):
    arithmetic = Arithmetic(stored=stored, linear=WeightRounding(3))
    found = []
    for thrifty in (False, True):
        with simulated(capture, arithmetic, thrifty=thrifty) as run:
            run(inputs())
            found.append(run(inputs())["y"])
    np.testing.assert_array_equal(*found)
    np.testing.assert_array_equal(capture.module.inner.weight.detach(), WEIGHT)
