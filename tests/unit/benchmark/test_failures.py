import pytest

from edgekd.benchmark.failures import Failures
from edgekd.errors import GateError
from edgekd.progress import Silent


def test_a_failure_ends_at_its_row_and_the_first_reason_is_kept():
    failures = Failures(Silent())
    for reason in ("first", "second"):
        with failures.caught("row"):
            raise GateError("pictures must be finite", reason)
    assert list(failures.reasons) == ["row"]
    assert "first" in failures.reasons["row"]


def test_a_defect_is_no_failure_of_a_row():
    with pytest.raises(KeyError), Failures(Silent()).caught("row"):
        raise KeyError("defect")
