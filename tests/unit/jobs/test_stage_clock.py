import pytest

from edgekd.jobs.forecast import Forecast
from edgekd.jobs.stage_clock import StageClock
from edgekd.progress import Silent


class Told(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, message: str) -> None:
        self.lines.append(message)


def work(clock: StageClock) -> None:
    with clock.track("work", 3) as advance:
        advance(1)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def clock(told) -> StageClock:
    return StageClock(["distill", "export", "benchmark"], told)


def test_nothing_is_foretold_for_what_is_finished(clock, told):
    """A run that is repeated: no stage opens a bar."""
    clock.use(Forecast({"distill": 600.0, "export": 60.0, "benchmark": 30.0}))
    for name in ("distill", "export", "benchmark"):
        with clock.stage(name):
            clock.info("  as it was")
    assert not [line for line in told.lines if "left" in line]
    assert told.lines[::2] == ["[1/3] distill", "[2/3] export", "[3/3] benchmark"]


def test_what_was_skipped_is_not_in_what_is_left(clock, told):
    clock.use(Forecast({"distill": 600.0, "export": 60.0, "benchmark": 30.0}))
    with clock.stage("distill"):
        pass
    with clock.stage("export"):
        work(clock)
        work(clock)
    with clock.stage("benchmark"):
        work(clock)
    assert [line for line in told.lines if "left" in line] == [
        "  about 1m30s left in all",
        # The export took no time, which says a little of the pace.
        "  about 15s left in all",
    ]
