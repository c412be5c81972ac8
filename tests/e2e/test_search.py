"""`edgekd search` and what follows from it, with the real runtime, on a small teacher."""

import json
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
import yaml
from fixtures.served_agents import ServedAgent, served

from edgekd import resources
from edgekd.benchmark import device_graphs, graph_cost
from edgekd.devices import link
from edgekd.jobs import search_cost
from edgekd.measure.graph_timing import Rounds
from edgekd.reading import read_json
from edgekd.search import campaign, correction
from edgekd.search.candidate import Candidate, FrontPoint
from edgekd.search.graphs import reference_graph

SMALL = [
    *("--set", "search.seconds=1"),  # what cannot be done without is measured all the same
    *("--set", "search.speedup=null"),
    *("--set", "search.whole_unets=4"),
    *("--set", "search.calibration_samples=8"),
    *("--set", "search.candidates=300"),
    *("--set", "search.trials=3"),
    *("--set", "search.finalists=1"),
    *("--set", "search.decoder_widths=[1.0,0.5]"),
]

# Times are those of a device: here they are measured in other tests.
SUITE = {
    "name": "few",
    "generation": {"steps": 1},
    "quality": {"samples": 4, "workers": 1, "kid_subsets": 2, "kid_subset_size": 2},
    "speed": {"component_runs": 1, "image_runs": 3, "busy_repeats": 0},
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
    assert found["sizes"] == "measured"
    chosen = found["front"][found["chosen"]["index"]]
    assert chosen["measured"]
    assert chosen["speedup"] > 1
    assert chosen["label"] in found["chosen"]["reason"]
    latencies = [one["latency_ms"] for one in found["front"]]
    assert latencies == sorted(latencies)
    for one in found["front"]:
        point = FrontPoint.model_validate(read_json(folder / one["file"]))
        told = point.model_dump(mode="json", exclude={"found"})
        assert told == {key: one[key] for key in Candidate.model_fields}
        assert point.found.startswith("Found by a search, searched on onnx: ")
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
    assert " ms (measured) from the fastest that exists" in line


def test_a_runtime_that_is_not_here_is_stood_in_for(run_cli, small):
    code, stdout, stderr = _search(run_cli, small, "--target", "coreml")
    assert code == 0, stderr
    assert "searched on onnx, not on coreml" in stdout
    assert "sizes are computed from the bits of a weight: 6 (palette6)" in stdout
    found = read_json(small["out"] / "search" / "search.json")
    assert found["sizes"] == "computed"


def test_measurements_alone_tell_how_good_they_are(run_cli, small, monkeypatch):
    """Of few and short ones: a text encoder, a decoder, a block of each of six kinds and as many
    U-Nets as errors can be told on. The second time nothing is measured."""
    monkeypatch.setattr(campaign, "_BLOCK_SHARE", 0.0)
    monkeypatch.setattr(search_cost, "_MOST_MEASUREMENTS", 8 + correction._FEW)
    monkeypatch.setattr(graph_cost, "Rounds", lambda: Rounds(seconds=0, batches=1))
    few = ["--set", "search.widths=[1.0]", "--set", "search.decoder_widths=[1.0]"]
    few += ["--budget", "5m", "--measure-only", "--json"]
    code, stdout, stderr = _search(run_cli, small, *few)
    assert code == 0, stderr
    found = json.loads(stdout)
    assert found["searched_on"]["runtime"] == "onnx"
    assert found["teacher_latency_ms"] > 0
    (told,) = found["predictors"].values()
    assert (told["measurements"], told["held_out"]) == (8 + correction._FEW, correction._FEW)
    assert 0 <= told["median_error"] <= told["p90_error"]
    assert 0 <= told["within_10"] <= 1
    assert -1 <= told["spearman"] <= 1

    kept = {path: path.stat().st_mtime_ns for path in Path(found["measurements"]).iterdir()}
    assert len(kept) > told["measurements"]  # the reference, and the teacher with guidance

    def refuse(*_, **__):
        pytest.fail("nothing was to be measured")

    monkeypatch.setattr(graph_cost, "Child", refuse)
    code, stdout, stderr = _search(run_cli, small, *few)
    assert code == 0, stderr
    assert json.loads(stdout) == found
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(list(Path(found["measurements"]).iterdir())) == len(kept)


class Sizes:
    """Converts graphs into files that are as large as there is to compute, without torch."""

    def __init__(self, conditions, folder, children):
        del conditions, children
        self.folder = folder

    def convert(self, graph, folder):
        (folder / graph.component).mkdir(parents=True)
        size = 1000 * graph.batch * len(graph.key())
        if graph.block is not None:
            size += graph.block.inputs * graph.block.outputs * graph.block.height
        elif graph.kind != "text_encoder":
            size += 2000 * sum(graph.config["block_out_channels"])
        (folder / graph.component / "model.onnx").write_bytes(bytes(size))
        return size

    def reference_folder(self):
        folder = self.folder / "reference"
        if not folder.exists():
            self.convert(reference_graph(), folder)
        return folder


def away(request: httpx.Request) -> httpx.Response | None:
    """A fault: out of reach as soon as there is work."""
    return httpx.Response(503) if "jobs" in request.url.path else None


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """`pi`, a `phone` that is three times as slow, and `old`, which runs nothing; their file."""
    monkeypatch.setattr(link, "Patience", lambda: link.IMPATIENT)
    monkeypatch.setattr(device_graphs, "Converter", Sizes)
    pi = ServedAgent(device_class="pi")
    phone = ServedAgent(factor=3.0, device_class="A phone")
    old = ServedAgent(device_class="old", runtimes=[])
    with served(pi, phone, old):
        file = tmp_path / "devices.yaml"
        entries = {"pi": pi.entry, "phone": phone.entry, "old": old.entry}
        entries["gone"] = {**pi.entry, "address": "http://127.0.0.1:9"}
        file.write_text(yaml.safe_dump({"devices": entries}))
        yield pi, phone, ["--devices-file", str(file)]


def test_devices_of_two_classes_get_a_front_each(run_cli, small, shelf):
    pi, phone, listed = shelf
    both = ["--devices", "pi,phone", *listed]
    phone.faults.append(away)
    code, stdout, stderr = _search(run_cli, small, *both)
    line = stderr.strip().splitlines()[-1]
    assert (code, stdout) == (2, "")
    assert "every class of devices must get a front, but got none for `A phone`" in line
    assert str(small["out"] / "search" / "class-pi") in line
    asked = len(pi.asked)

    phone.faults.clear()
    code, stdout, stderr = _search(run_cli, small, *both, "--json")
    assert code == 0, stderr
    assert "/v1/jobs" not in "".join(pi.asked[asked:])  # what was found stays
    found = json.loads(stdout)
    assert list(found["fronts"]) == ["pi", "A phone"]
    fast, slow = found["fronts"].values()
    for name, front in found["fronts"].items():
        assert front["searched_on"]["device_class"] == name
        assert read_json(Path(found["folders"][name]) / "search.json") == front
    assert slow["teacher"]["latency_ms"] == pytest.approx(3 * fast["teacher"]["latency_ms"])
    assert slow["teacher"]["bytes"] == fast["teacher"]["bytes"]

    code, stdout, stderr = _search(run_cli, small, *both)
    assert code == 0, stderr
    assert "[pi]" in stdout
    assert "searched on onnx of A phone" in stdout
    assert f"student:  {found['folders']['A phone']}" in stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--devices", "pi,tv"], "must name known devices"),
        (["--devices", "pi,pi"], "takes each device once"),
        (["--devices", "gone"], "device `gone` must answer"),
        (["--devices", "local,old"], "device `old` must run onnx"),
        (["--devices", "pi", "--target", "coreml"], "device `pi` must run coreml"),
        (["--devices", "local,pi", "--measure-only"], "devices of one class, but got local, pi"),
        (["--devices", "pi", "--set", "search.threads=9"], "at most what device `pi` allows, 4"),
    ],
)
def test_devices_that_cannot_measure_are_said_before_any_work(
    run_cli, small, shelf, tmp_path, arguments, said
):
    out = tmp_path / "run"
    code, stdout, stderr = _search(run_cli, {**small, "out": out}, *shelf[2], *arguments)
    assert (code, stdout) == (2, "")
    (line,) = stderr.strip().splitlines()
    assert said in line
    assert not out.exists()


def test_a_point_of_a_devices_front_is_distilled_as_it_was_found(run_cli, small, shelf, tmp_path):
    """And the search that decides by itself has its place in report and card."""
    devices = ["--devices", "pi", *shelf[2]]
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
    arguments = ["distill", "--out", str(small["out"]), *small["inputs"], *sets, *devices, "--json"]
    code, stdout, stderr = run_cli(*arguments)
    assert code == 0, stderr
    result = json.loads(stdout)
    found = read_json(small["out"] / "search" / "search.json")
    chosen = found["front"][found["chosen"]["index"]]
    card = (Path(result["student"]) / "README.md").read_text()
    assert f"num_inference_steps: {chosen['steps']}" in card
    assert "Found by a search, searched on onnx of pi" in card
    report = read_json(Path(result["report"]).with_name("report.json"))
    assert report["search"] == found
    page = Path(result["report"]).read_text()
    assert "Front of the search, searched on onnx of pi" in page
    assert "On device pi" in page
    there = {row["name"]: row for row in report["rows"] if row["device"] == "pi"}
    assert list(there) == ["teacher onnx fp32 on pi", "student onnx fp32 on pi"]
    assert there["student onnx fp32 on pi"]["figures"]["latency_ms"]["value"] == 100.0
    assert result["metrics"]["rows"]["student"] == "student onnx fp32 on pi"
    assert [one["device_class"] for one in report["devices"]] == ["pi"]
    recipe = (small["out"] / "recipe.yaml").read_text()
    assert f"student_steps: {chosen['steps']}" in recipe

    # Its export in a benchmark of two devices, one of which is lost.
    phone = shelf[1]
    phone.faults.append(away)
    inputs = [*small["inputs"][:4], "--models", f"student={result['export']}"]
    devices = ["--devices", "pi,phone", *shelf[2]]
    out = tmp_path / "matrix"
    arguments = ["benchmark", str(suite), "--out", str(out), *inputs, *devices, "--json"]
    code, stdout, stderr = run_cli(*arguments)
    assert code == 3, stderr
    found = json.loads(stdout)
    (name,) = [name for name in found["rows"] if name.endswith("on pi")]
    assert found["rows"][name]["latency_ms"]["value"] == 100.0
    ((lost, why),) = found["failed"].items()
    assert lost == name.replace("on pi", "on phone")
    assert "device `phone` must answer" in why
    assert lost in Path(found["report"]).read_text()
