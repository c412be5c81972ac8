from xml.etree import ElementTree

import pytest

from edgekd.search.plot import FrontPoints, draw_front

SVG = "{http://www.w3.org/2000/svg}"


def front(**changes) -> FrontPoints:
    values = {
        "latencies": [10.0, 20.0, 25.0, 40.0],
        "qualities": [0.6, 0.8, 0.5, 0.9],
        "measured": [True, False, False, True],
        "chosen": 3,
        "label": "2 steps, one pair in stage 2 & no mid block, decoder 0.5, int8",
        "teacher_ms": 900.0,
        "searched_on": "searched on onnxruntime, not on Core ML",
        **changes,
    }
    return FrontPoints(**values)


def texts(points: FrontPoints) -> list[str]:
    root = ElementTree.fromstring(draw_front(points))
    return ["".join(node.itertext()).strip() for node in root.iter(f"{SVG}text")]


def test_it_says_what_is_measured_who_was_chosen_and_where():
    shown = texts(front())
    assert "measured whole (2)" in shown
    assert "predicted (1)" in shown
    assert "predicted, on the front for its size (1)" in shown
    assert "Front of students, searched on onnxruntime, not on Core ML" in shown
    assert "chosen: 40 ms, 22.5\N{MULTIPLICATION SIGN} as fast" in " ".join(shown)
    assert "2 steps, one pair in stage 2 & no" in shown
    assert "teacher" in shown
    assert "picture latency (ms)" in shown
    assert "expected quality (share of the teacher's)" in shown


def test_marks_that_do_not_occur_are_not_explained():
    shown = texts(front(measured=[True] * 4))
    assert not [text for text in shown if text.startswith("predicted")]


@pytest.mark.parametrize("chosen", [0, 3])
def test_equal_input_gives_equal_pictures(chosen):
    assert draw_front(front(chosen=chosen)) == draw_front(front(chosen=chosen))


def test_one_point_that_is_as_fast_as_the_teacher():
    alone = front(latencies=[900.0], qualities=[1.0], measured=[True], chosen=0)
    assert "measured whole (1)" in texts(alone)
