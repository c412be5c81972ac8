import math
import sys

import pytest
import torch
from torch import Tensor, nn

from edgekd.errors import GateError, InputError
from edgekd.export.capture import Capture
from edgekd.export.coreml.activations import calibrate, rounded_inputs
from edgekd.export.coreml.convert import largest_activation, needs_float32
from edgekd.export.coreml.exporter import CoreMlExporter, write_resources
from edgekd.export.protocol import MayOnlyEvaluate
from edgekd.export.record import Recording


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 2, bias=False)
        nn.init.eye_(self.linear.weight)

    def forward(self, sample: Tensor) -> tuple[Tensor]:
        return (self.linear(sample) * 0.5,)


def recording(*values: float) -> Recording:
    sample = torch.tensor([values], dtype=torch.float32).numpy()
    return Recording({"sample": sample}, {"out": sample / 2})


@pytest.fixture
def captured() -> Capture:
    module = Scaled().requires_grad_(False)
    return Capture("vae_decoder", module, {"sample": torch.zeros(1, 2)}, ("out",), {}, {})


def test_the_largest_activation_is_that_of_any_layer(captured):
    assert largest_activation(captured, [recording(1, -7), recording(3, 2)]) == 7


@pytest.mark.parametrize(
    ("largest", "needed"),
    [(1000.0, False), (32_000.0, False), (33_000.0, True), (70_000.0, True), (math.nan, True)],
)
def test_float16_needs_headroom(largest, needed):
    assert needs_float32(largest) is needed


def test_scales_come_from_all_recorded_calls(captured):
    scales = calibrate(captured, [recording(1, -12.7), recording(3, 2)])
    assert scales == {"linear": pytest.approx(0.1)}
    with pytest.raises(GateError, match=r"finite.*linear"):
        calibrate(captured, [recording(math.inf, 1)])


def test_inputs_are_rounded_only_while_the_context_is_open(captured):
    sample = torch.tensor([[0.26, -99.0]])
    with rounded_inputs(captured.module, {"linear": 0.1}):
        (rounded,) = captured.module(sample)
    torch.testing.assert_close(rounded, torch.tensor([[0.15, -6.4]]))  # -128 codes at most
    torch.testing.assert_close(captured.module(sample)[0], sample / 2)


def test_a_tokenizer_that_swift_cannot_read_is_refused(tmp_path):
    (tmp_path / "tokenizer").mkdir()
    with pytest.raises(InputError, match=r"vocab\.json"):
        write_resources(tmp_path)


def test_only_a_mac_executes(monkeypatch):
    exporter = CoreMlExporter()
    assert isinstance(exporter, MayOnlyEvaluate)
    monkeypatch.setattr(sys, "platform", "linux")
    assert "not executed by Core ML" in exporter.not_executed_here()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert exporter.not_executed_here() == ""
