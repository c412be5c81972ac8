"""Calls that go to another process, and what comes back from one that fails or dies."""

import os
import signal

import pytest

from edgekd.errors import EdgekdError, GateError, InputError
from edgekd.processes.child import Child, ChildError

ENTRIES = """
import os

def fail(error):
    raise error

def end(how):
    print("last words", flush=True)
    os.kill(os.getpid(), how)

def unsendable(_):
    yield
"""


@pytest.fixture(scope="module")
def child(entries):
    with Child("try", threads=3) as child:
        yield child


def test_libraries_of_a_child_are_told_its_threads_before_they_load(child):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        assert child.call(os.getenv, name) == "3"


def test_it_is_one_other_process_whose_prints_disturb_nothing(child):
    assert child.call(os.getpid) == child.process.pid != os.getpid()
    assert child.call(print, "noise") is None
    assert child.call(divmod, 7, 4) == (1, 3)


@pytest.mark.parametrize(
    "error", [InputError("`a >= 1` must hold", "a=0", "Raise a."), GateError("parity", "NaN")]
)
def test_an_error_for_the_user_is_the_same_error_here(child, entries, error):
    with pytest.raises(type(error)) as found:
        child.call(entries.fail, error)
    assert str(found.value) == str(error)
    assert found.value.exit_code == error.exit_code


def test_what_the_system_refused_keeps_its_number(child, entries):
    with pytest.raises(OSError, match="No space") as found:
        child.call(entries.fail, OSError(28, "No space left on device", "some/file"))
    assert (found.value.errno, found.value.filename) == (28, "some/file")


@pytest.mark.parametrize(
    ("function", "argument", "said"),
    [
        ("fail", ValueError("it broke"), "ValueError at .*entries.*.py:5: it broke"),
        ("unsendable", 1, "TypeError.*pickle"),  # a result that cannot be sent
    ],
)
def test_a_defect_is_one_line_and_keeps_its_traceback(child, entries, function, argument, said):
    with pytest.raises(ChildError, match=said) as found:
        child.call(getattr(entries, function), argument)
    assert "\n" not in str(found.value)
    assert "Traceback" in str(found.value.__cause__)
    assert child.call(abs, -1) == 1


@pytest.mark.parametrize(
    ("how", "kind", "said"),
    [
        (signal.SIGKILL, GateError, "fit in the memory of this machine.*`die`"),
        (signal.SIGSEGV, ChildError, "`die` must live to the end.*SIGSEGV last words"),
    ],
)
def test_a_death_is_one_line_at_this_call_and_the_next(entries, how, kind, said):
    with Child("die") as child:
        for _ in range(2):
            with pytest.raises(kind, match=said) as found:
                child.call(entries.end, how)
            assert isinstance(found.value, EdgekdError)
            assert len(str(found.value).splitlines()) == 1
