from dataclasses import replace

from edgekd.serve.messages import Drawing
from edgekd.serve.recent import RecentTimes

DRAWING = Drawing("starter", "red apple", None, 0, 2, 1.0, None, 64, 64)


def test_the_median_of_the_last_pictures_of_a_kind():
    times = RecentTimes(pictures=3)
    assert times.median(DRAWING) is None
    for seconds in (9.0, 1.0, 3.0, 2.0):  # the first has left
        times.note(replace(DRAWING, prompt=f"{seconds}", seed=int(seconds)), seconds)
    assert times.median(DRAWING) == 2.0
    others = [{"model": "b"}, {"steps": 3}, {"guidance_scale": 2.0}, {"sampler": "x"}]
    for change in (*others, {"height": 32}, {"width": 32}):
        assert times.median(replace(DRAWING, **change)) is None, change


def test_kinds_are_bounded():
    times = RecentTimes(kinds=2)
    for steps in (1, 2, 1, 3):
        times.note(replace(DRAWING, steps=steps), 1.0)
    found = {n for n in (1, 2, 3) if times.median(replace(DRAWING, steps=n)) is not None}
    assert found == {1, 3}
