import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekd.errors import GateError, InputError
from edgekd.export.onnx.exporter import OnnxExporter
from edgekd.export.parity import EXACT_DB, ComponentGate, check_component, check_deployed, snr_db
from edgekd.export.picture_parity import psnr_db
from edgekd.export.protocol import Floor, Generation
from edgekd.export.record import Recording
from edgekd.export.trajectory import record_for_parity

FLOOR = Floor(40.0, "because")
GATE = ComponentGate("unet", "fp32", FLOOR)
X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
CALL = Recording({}, {})


class FakeRunner:
    """Gives a fixed output for the input `x`."""

    inputs: tuple[str, ...] = ("x",)
    outputs: tuple[str, ...] = ("y",)
    executed_by = "fake"
    partial = False

    def __init__(self, *results: Any) -> None:
        self._results = iter(results)

    def __call__(self, inputs: dict[str, Any]) -> dict[str, Any]:
        result = next(self._results)
        if isinstance(result, Exception):
            raise result
        return {"y": result}


def check(*results: Any, references: tuple[Any, ...] = (X,)) -> Any:
    recordings = [Recording({"x": X}, {"y": reference}, 7.0) for reference in references]
    return check_component(GATE, FakeRunner(*results), recordings)


def test_snr_is_ten_log_of_the_power_ratio():
    reference = np.ones(100, np.float32)
    assert snr_db(reference, reference * 1.1) == pytest.approx(20.0, abs=1e-4)
    assert snr_db(reference, reference) == EXACT_DB
    assert snr_db(np.zeros(4), np.ones(4)) < -100
    assert np.isnan(snr_db(reference, np.full(100, np.nan)))


def test_psnr_takes_a_peak_of_one():
    black = np.zeros((2, 2, 3), np.float32)
    assert psnr_db(black, black + 0.01) == pytest.approx(40.0, abs=1e-4)
    assert psnr_db(black, black) == EXACT_DB


def test_worst_call_decides():
    noise = X * 1e-3
    good = X + noise  # 60 dB
    assert check(good, X, references=(X, X)).snr_db == pytest.approx(60, abs=0.1)
    with pytest.raises(GateError, match=r"snr_db=20"):
        check(X, X, X, X * 1.1, references=(X, X, X, X))


def test_message_names_part_precision_snr_and_floor():
    with pytest.raises(GateError) as failure:
        check(X * 1.1)
    for text in ("component=unet", "precision=fp32", "snr_db=20.0", "floor_db=40", "because"):
        assert text in str(failure.value)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (np.where(X > 0.9, np.nan, X).astype(np.float32), "finite"),
        (np.where(X > 0.9, np.inf, X).astype(np.float32), "finite"),
        (np.full_like(X, 0.5), "constant"),
        (X.astype(np.float64), "float64"),
        (X.astype(np.float16), "float16"),
        (X.T.copy(), r"\(4, 3\)"),
        (X[:2], r"\(2, 4\)"),
        (RuntimeError("no\nkernel"), "no kernel"),
    ],
)
def test_bad_outputs_fail(result, problem):
    with pytest.raises(GateError, match=problem):
        check(result)


def test_a_reference_that_is_not_finite_fails():
    broken = np.where(X > 0.9, np.nan, X).astype(np.float32)
    with pytest.raises(GateError, match="torch's output must be finite"):
        check(broken, references=(broken,))


def test_a_part_that_was_never_recorded_fails():
    with pytest.raises(GateError, match="at least once"):
        check(references=())


def test_other_names_fail():
    runner = FakeRunner(X)
    runner.outputs = ("z",)
    with pytest.raises(GateError, match="z"):
        check_component(GATE, runner, [Recording({"x": X}, {"y": X})])


@pytest.mark.parametrize("partial", [False, True])
def test_only_a_partial_runner_may_leave_outputs_out(partial):
    runner = FakeRunner(X)
    runner.partial = partial
    recordings = [Recording({"x": X}, {"y": X, "unread": X}, 7.0)]
    if partial:
        assert check_component(GATE, runner, recordings).snr_db == EXACT_DB
        return
    with pytest.raises(GateError, match="inputs and outputs must be"):
        check_component(GATE, runner, recordings)


class DeployedElsewhere:
    """As much of an exporter as the second check needs; deployment adds noise."""

    name = "fake"

    def __init__(self, noise: float) -> None:
        self._noise = noise

    def open_deployed(self, exported_path: Path, component: str) -> FakeRunner:
        runner = FakeRunner(X * (1 + self._noise))
        runner.executed_by = "fake in bf16"
        return runner


def test_what_is_deployed_has_a_figure_of_its_own():
    recordings = [Recording({"x": X}, {"y": X}, 7.0)]
    parity = check(X)
    gate = ComponentGate("unet", "fp32 as deployed", Floor(30.0, "bf16"))
    exporter: Any = DeployedElsewhere(1e-2)
    deployed = check_deployed(gate, parity, exporter, Path(), recordings)
    assert deployed.snr_db == parity.snr_db
    assert deployed.deployed_snr_db == pytest.approx(40, abs=0.1)
    assert (deployed.deployed_floor_db, deployed.deployed_executed_by) == (30.0, "fake in bf16")
    exporter = DeployedElsewhere(1e-1)
    with pytest.raises(GateError, match=r"fp32 as deployed must be at least floor_db=30"):
        check_deployed(gate, parity, exporter, Path(), recordings)
    assert check_deployed(gate, parity, OnnxExporter(), Path(), recordings) is parity


@pytest.mark.parametrize(("own", "passes"), [(29.0, True), (31.0, False), (None, False)])
def test_a_part_below_the_floor_is_held_against_its_own(own, passes):
    asked = []

    def floor(worst: Recording) -> Floor | None:
        asked.append(worst)
        return None if own is None else Floor(own, "torch keeps no more")

    gate = ComponentGate("unet", "int8", FLOOR, floor)
    assert gate.hold(40.0, CALL) is FLOOR
    assert not asked  # it is dear to know
    if passes:
        assert gate.hold(30.0, CALL) == Floor(29.0, "torch keeps no more")
    else:
        with pytest.raises(GateError, match=r"at least floor_db=40.*snr_db=30\.00"):
            gate.hold(30.0, CALL)


@pytest.mark.parametrize(
    ("own", "snr", "needed"),
    [
        (60.0, 57.0, None),
        (60.0, 55.0, 56),
        (196.0, 110.0, None),
        (196.0, 69.0, 70),
        (None, 41.0, None),
    ],
)
def test_where_torch_computes_alike_a_part_comes_near_it(own, snr, needed):
    """A damaged part may be above the floor of its precision. 196 dB: nothing was rounded."""
    gate = ComponentGate(
        "unet", "int8", FLOOR, lambda _: own and Floor(own, "torch keeps it"), near=True
    )
    if needed is None:
        assert gate.hold(snr, CALL) is FLOOR
    else:
        with pytest.raises(GateError, match=rf"floor_db={needed}\b.*torch keeps it"):
            gate.hold(snr, CALL)


def test_no_floor_of_its_own_saves_what_is_not_a_number():
    gate = ComponentGate("unet", "int8", FLOOR, lambda _: Floor(-200.0, "anything"))
    with pytest.raises(GateError, match="snr_db=nan"):
        gate.hold(math.nan, CALL)


def test_no_prompts_are_refused():
    with pytest.raises(InputError, match="prompt"):
        record_for_parity(None, [], Generation())


SHIFTED = np.roll(X, 1)


@pytest.mark.parametrize(
    ("near", "found", "same", "passes"),
    [
        (True, (1e-2, 2e-2), (1e-2, 2e-2), True),
        (True, (1e-2, 2e-2), (1e-2, 1e-2), False),  # one call differs: there are no integers
        (False, (1e-2, 1.4e-2), (-1e-2, 1e-2), True),  # moved integers, 37 dB for 40
        (False, (1e-2, 2e-2), (1e-2, 1e-2), False),
        (False, (1e-2, 9e-4), (1e-2, 1e-5), True),  # 61 dB
    ],
)
def test_what_torch_repeats_is_what_an_export_gives(near, found, same, passes):
    """Noise of two calls. All of them are above the floor of 20 dB."""
    recordings = [Recording({"x": X}, {"y": X}), Recording({"x": X}, {"y": X})]

    def given(noises: tuple[float, ...]) -> list[np.ndarray]:
        return [X + noise * SHIFTED for noise in noises]

    def repeated(calls: list[Recording]) -> list[dict[str, np.ndarray]]:
        assert calls == recordings
        return [{"y": value} for value in given(same)]

    gate = ComponentGate("unet", "int8", Floor(20.0, "low"), near=near, repeated=repeated)
    if passes:
        assert check_component(gate, FakeRunner(*given(found)), recordings).floor_db == 20
    else:
        with pytest.raises(GateError, match="what torch gives with the same rounding"):
            check_component(gate, FakeRunner(*given(found)), recordings)
