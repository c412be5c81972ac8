import pickle

import pytest

from edgekd.devices.worker import answer, plain
from edgekd.errors import GateError, InputError
from edgekd.measure.clock import Latency


def asked(function, *arguments):
    return answer(pickle.dumps((function, arguments)))


def give(kind):
    if kind == "result":
        return {"a": Latency((1.0,), ()), "b": [(1, 2)], "c": None}
    if kind == "input":
        raise InputError("a rule", "a value", "A way out.")
    if kind == "gate":
        raise GateError("pictures must be finite", "NaN")
    if kind == "arena":
        raise InputError("it must run", "Failed to allocate memory for requested buffer")
    if kind == "heap":
        raise MemoryError
    if kind == "native":
        raise RuntimeError("std::bad_alloc")
    raise KeyError("/home/ada/secret")


def test_results_are_types_of_json():
    latency = {"samples_ms": (1.0,), "warmup_ms": (), "cpu_ms": (), "joules": (), "repeats": 0}
    expected = {"a": {**latency, "busy": False}, "b": [[1, 2]], "c": None}
    assert asked(give, "result") == {"result": expected}
    assert plain((Latency((1.0,), ()),)) == [expected["a"]]


def test_an_error_for_the_user_comes_with_its_parts():
    parts = {"code": "input", "rule": "a rule", "found": "a value", "fix": "A way out."}
    assert asked(give, "input") == {"failure": parts}


@pytest.mark.parametrize(
    ("kind", "code"),
    [("gate", "gate"), ("arena", "memory"), ("heap", "memory"), ("native", "memory"),
     ("other", "defect")],
)  # fmt: skip
def test_kinds_of_errors(kind, code):
    found = asked(give, kind)["failure"]
    assert found["code"] == code
    assert "ada" not in str(found)
