import json

import pytest
from fixtures.studies import ARCH

from edgekd.errors import InputError
from edgekd.recipe_search import Goal
from edgekd.search.candidate import Candidate, Cost, Scored
from edgekd.search.choice import Settled, TeacherPoint, choose
from edgekd.search.front import pareto_front
from edgekd.search.latency import PredictorReport
from edgekd.search.result import (
    SearchedOn,
    SearchFacts,
    SearchResult,
    make_result,
    read_result,
    write_result,
)

UNET = {
    "block_out_channels": (32,),
    "norm_num_groups": 32,
    "down_block_types": ("CrossAttnDownBlock2D",),
    "up_block_types": ("CrossAttnUpBlock2D",),
    "attention_head_dim": 4,
}
TEACHER = TeacherPoint(100.0, 9_000_000, UNET)
FACTS = SearchFacts(
    predictor=PredictorReport(
        held_out=30, measurements=52, median_error=0.02, p90_error=0.06, within_10=0.97,
        spearman=0.99, form="linear", outliers=1, warnings=("few measurements",),
    ),
    searched_on=SearchedOn(runtime="onnxruntime", precision=("fp32",), threads=1, device="a host"),
    candidates_per_second=3000.0,
    candidates=900,
    trials=40,
    study="onnx-0123456789ab",
    storage="sqlite:///study.sqlite",
)  # fmt: skip


@pytest.fixture
def result() -> SearchResult:
    points = [
        Scored(
            Candidate(arch=ARCH, decoder_width=0.5, steps=steps, precision="fp32"),
            Cost(10.0 * steps, 1_000_000, 2_000_000),
            0.5 + steps / 10,
            measured=steps == 4,
        )
        for steps in (1, 2, 4)
    ]
    front = pareto_front(points)
    return make_result(FACTS, Settled(front, choose(front, Goal(), TEACHER)), TEACHER)


def test_what_the_json_says(result):
    told = json.loads(result.model_dump_json())
    assert told["chosen"] == {
        "index": 2,
        "reason": "the fastest that keeps at least 0.9 of the teacher's expected quality: "
        "4 steps, the whole U-Net, decoder 0.5, fp32",
    }
    chosen = told["front"][2]
    assert chosen.pop("arch") == ARCH.model_dump(mode="json")
    assert chosen == {
        "decoder_width": 0.5, "steps": 4, "precision": "fp32", "intact": False,
        "latency_ms": 40.0, "measured": True, "quality": 0.9,
        "bytes": 1_000_000, "peak_bytes": 2_000_000,
        "speedup": 2.5, "file": "front/2.json",
        "label": "4 steps, the whole U-Net, decoder 0.5, fp32",
    }  # fmt: skip
    assert told["teacher"] == {"latency_ms": 100.0, "bytes": 9_000_000}
    assert told["predictor"]["within_10"] == 0.97
    assert told["candidates_per_second"] == 3000.0


def test_it_is_written_and_read_back(result, tmp_path):
    write_result(tmp_path, result)
    assert read_result(tmp_path) == result
    said = [*(one.label for one in result.front[:2]), result.chosen.reason]
    for one, why in zip(result.front, said, strict=True):
        found = f"Found by a search, searched on onnxruntime: {why}."
        point = {**one.candidate.model_dump(mode="json"), "found": found}
        assert json.loads((tmp_path / one.file).read_text()) == point
    assert (tmp_path / "front.svg").read_text().startswith("<?xml")


def test_a_shorter_front_leaves_no_file_of_the_longer_one(result, tmp_path):
    write_result(tmp_path, result)
    write_result(tmp_path, make_result(FACTS, _only(result), TEACHER))
    names = {path.name for path in (tmp_path / "front").iterdir()}
    assert names == {"0.json", "artifact.json"}
    assert len(read_result(tmp_path).front) == 1


def _only(result: SearchResult) -> Settled:
    one = result.student
    point = Scored(one.candidate, Cost(one.latency_ms, one.bytes, one.peak_bytes), one.quality)
    return Settled((point,), choose([point], Goal(), TEACHER))


def test_a_stand_in_is_named(result):
    assert result.searched_on.sentence == "searched on onnxruntime"
    stand_in = result.searched_on.model_copy(update={"stand_in_for": "Core ML"})
    assert stand_in.sentence == "searched on onnxruntime, not on Core ML"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.pop("front"), "`front` is missing"),
        (
            lambda value: value["chosen"].update(index=3),
            "`chosen.index` must be below 3",
        ),
        (lambda value: value["front"][0].update(quality="good"), "`front.0.quality`"),
        (lambda value: value.update(extra=1), "unknown key `extra`"),
    ],
)
def test_a_changed_file_is_refused(result, tmp_path, change, message):
    write_result(tmp_path, result)
    value = json.loads((tmp_path / "search.json").read_text())
    change(value)
    (tmp_path / "search.json").write_text(json.dumps(value))
    with pytest.raises(InputError) as error:
        read_result(tmp_path)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1
