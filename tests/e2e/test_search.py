"""`edgekd search` and what follows from it, with the real runtime, on a small teacher."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from edgekd import resources
from edgekd.reading import read_json
from edgekd.search.candidate import Candidate

SMALL = [
    *("--set", "search.seconds=1"),  # what cannot be done without is measured all the same
    *("--set", "search.speedup=null"),
    *("--set", "search.whole_unets=4"),
    *("--set", "search.calibration_samples=8"),
    *("--set", "search.candidates=300"),
    *("--set", "search.trials=3"),
    *("--set", "search.decoder_widths=[1.0,0.5]"),
]

# Pictures alone: times and memory are measured in other tests, each in processes of its own.
SUITE = {
    "name": "few",
    "generation": {"steps": 1},
    "quality": {"samples": 4, "workers": 1, "kid_subsets": 2, "kid_subset_size": 2},
    "speed": None,
    "memory": False,
    "embeddings": None,
    "pictures": 2,
}


@pytest.fixture(scope="module")
def small(tmp_path_factory, shallow_teacher) -> dict[str, Any]:
    """Arguments of every run, and the folder that they share: measurements are kept there."""
    folder = tmp_path_factory.mktemp("search")
    few = pq.read_table(resources.STARTER / "emoji-64.parquet").slice(2000, 60)
    pq.write_table(few, folder / "few.parquet")
    inputs = ["--teacher", str(shallow_teacher), "--data", str(folder / "few.parquet")]
    return {"inputs": [*inputs, *SMALL], "out": folder / "run"}


def _search(run_cli, small, *arguments: str) -> tuple[int, str, str]:
    result: tuple[int, str, str] = run_cli(
        "search", "--out", str(small["out"]), *small["inputs"], *arguments
    )
    return result


def test_a_front_of_students_is_found_for_a_target(run_cli, small):
    code, stdout, stderr = _search(run_cli, small, "--json")
    assert code == 0, stderr
    found = json.loads(stdout)
    folder = small["out"] / "search"
    assert found == read_json(folder / "search.json")
    assert found["searched_on"]["runtime"] == "onnx"
    assert found["searched_on"]["stand_in_for"] is None
    chosen = found["front"][found["chosen"]["index"]]
    assert chosen["measured"]
    assert chosen["speedup"] > 1
    assert chosen["label"] in found["chosen"]["reason"]
    latencies = [one["latency_ms"] for one in found["front"]]
    assert latencies == sorted(latencies)
    for one in found["front"]:
        point = Candidate.model_validate(read_json(folder / one["file"]))
        assert point.model_dump(mode="json") == {key: one[key] for key in Candidate.model_fields}
    assert (folder / "front.svg").read_text().startswith("<?xml")

    # A second run computes nothing.
    before = (folder / "search.json").stat().st_mtime_ns
    code, stdout, _ = _search(run_cli, small, "--json")
    assert code == 0
    assert json.loads(stdout) == found
    assert (folder / "search.json").stat().st_mtime_ns == before


def test_what_nobody_can_reach_names_the_fastest_there_is(run_cli, small):
    code, _, stderr = _search(run_cli, small, "--latency-ms", "0.01")
    assert code == 3
    line = stderr.strip().splitlines()[-1]
    assert "some student must draw a picture within 0.01 ms" in line
    assert "from the fastest that exists" in line


def test_a_runtime_that_is_not_here_is_stood_in_for(run_cli, small):
    code, stdout, stderr = _search(run_cli, small, "--target", "coreml")
    assert code == 0, stderr
    assert "searched on onnx, not on coreml" in stdout


def test_a_point_of_the_front_is_distilled_as_it_was_found(run_cli, small, tmp_path):
    """And the search that decides by itself has its place in report and card."""
    suite = tmp_path / "suite.yaml"
    suite.write_text(yaml.safe_dump(SUITE))
    few = {
        "distill.steps": 1, "distill.validation_samples": 2, "distill.sample_steps": 1,
        "distill.batch_size": 2, "distill.few_step.trajectories": 2, "distill.few_step.steps": 1,
        "distill.few_step.validation_samples": 2, "distill.decoder.steps": 1,
        "distill.decoder.validation_samples": 2, "export.precisions": "[fp32]",
        "benchmark.suite": suite, "search.min_quality": 0.2,
    }  # fmt: skip
    sets = [part for name, value in few.items() for part in ("--set", f"{name}={value}")]
    arguments = ["distill", "--out", str(small["out"]), *small["inputs"], *sets, "--json"]
    code, stdout, stderr = run_cli(*arguments)
    assert code == 0, stderr
    result = json.loads(stdout)
    found = read_json(small["out"] / "search" / "search.json")
    chosen = found["front"][found["chosen"]["index"]]
    card = (Path(result["student"]) / "README.md").read_text()
    assert f"num_inference_steps: {chosen['steps']}" in card
    assert "Found by a search, searched on onnx" in card
    report = read_json(Path(result["report"]).with_name("report.json"))
    assert report["search"] == found
    page = Path(result["report"]).read_text()
    assert "Front of the search, searched on onnx" in page
    recipe = (small["out"] / "recipe.yaml").read_text()
    assert f"student_steps: {chosen['steps']}" in recipe
