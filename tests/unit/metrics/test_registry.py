from importlib.metadata import EntryPoint

import pytest

from edgekd import entries
from edgekd.errors import InputError
from edgekd.metrics import registry

FD, KID = "edgekd.metrics.fd:METRIC", "edgekd.metrics.kid:METRIC"


def install(monkeypatch: pytest.MonkeyPatch, *values: tuple[str, str]) -> None:
    found = [EntryPoint(name, value, registry.GROUP) for name, value in values]
    monkeypatch.setattr(entries, "entry_points", lambda group: found)


def test_metrics_come_in_the_order_of_their_ranks(monkeypatch):
    install(monkeypatch, ("kid", KID), ("fd", FD), ("fd", FD))  # metadata may be there twice
    assert [metric.descriptor.name for metric in registry.load_metrics()] == ["fd", "kid"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([("fd", FD), ("fd", KID)], "must be unique"),
        ([("distance", FD)], "must be a Metric of that name"),
        ([("fd", "edgekd.metrics.fd:distance")], "must be a Metric of that name"),
        ([], "no entry point"),
    ],
)
def test_what_is_no_set_of_metrics_is_refused(monkeypatch, values, said):
    install(monkeypatch, *values)
    with pytest.raises(InputError, match=said):
        registry.load_metrics()
