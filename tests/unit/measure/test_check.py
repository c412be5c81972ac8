from edgekd.measure import check as module
from edgekd.measure.check import check


def test_a_sleep_takes_at_least_its_time_and_work_some():
    found = check(runs=3, sleep_ms=5)
    assert len(found.sleep.samples_ms) == len(found.work.samples_ms) == 3
    assert min(found.sleep.samples_ms) >= 5
    # Sleeping costs nothing, work all its time.
    assert max(found.sleep.cpu_ms) < 5
    assert min(found.work.cpu_ms) > 0


def test_heat_is_what_changed_meanwhile(monkeypatch):
    moments = iter([(None, 40.0, 1), ("performance", 80.0, 2)])
    monkeypatch.setattr(module, "conditions", lambda: module_conditions(*next(moments)))
    found = check(runs=1, sleep_ms=1)
    assert (found.throttled, found.governor, found.temperature_c) == (True, "performance", 80.0)


def module_conditions(*values):
    from edgekd.measure.conditions import ProcessorState

    return ProcessorState(*values)
