import json
from typing import Any

import pytest

from edgekd.benchmark.exports import ExportCosts, benchmark_exports, choose_targets, table
from edgekd.benchmark.suite import ExportSuite, load_any_suite, load_suite
from edgekd.errors import InputError
from edgekd.export.onnx.exporter import OnnxExporter
from edgekd.export.protocol import Floor, Floors
from edgekd.processes.child import Child
from edgekd.progress import Silent
from edgekd.resources import find_yaml
from edgekd.student.reference import ARCHITECTURES
from edgekd.target import load_target

SMALL: dict[str, dict[str, Any]] = {
    "text_encoder": {
        "vocab_size": 49408,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 77,
        "projection_dim": 32,
    },
    "unet": {
        **ARCHITECTURES["sd15"]["unet"],
        "sample_size": 8,
        "block_out_channels": [16, 16, 32, 32],
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": 32,
        "attention_head_dim": 4,
    },
    "vae": {
        **ARCHITECTURES["sd15"]["vae"],
        "block_out_channels": [8, 8, 16, 16],
        "layers_per_block": 1,
        "norm_num_groups": 8,
    },
}


def suite(**changes: Any) -> ExportSuite:
    values = {"kind": "export", "name": "small", "targets": {"onnx": []}, "prompts": ["cat"]}
    return ExportSuite.model_validate({**values, **changes})


def test_shipped_suite_is_one_of_exports_and_no_other():
    path = find_yaml("benchmarks", "export-sd15")
    assert isinstance(load_any_suite(path), ExportSuite)
    with pytest.raises(InputError, match="architecture"):
        load_suite(path)


def test_precision_that_the_runtime_does_not_have_is_refused():
    with pytest.raises(InputError, match="fp7"):
        choose_targets(suite(targets={"onnx": ["fp7"]}), [load_target("onnx")])


def test_rows_tell_cost_and_parity_also_of_what_failed(tmp_path, monkeypatch):
    def call_here(self, function, *arguments):
        """A fresh process would not know of the small architecture."""
        function(*arguments)

    real_floors = OnnxExporter.floors

    def floors(self, precision):
        if precision == "int8":
            return Floors(Floor(0, "none"), Floor(1e9, "out of reach"))
        return real_floors(self, precision)

    monkeypatch.setitem(ARCHITECTURES, "sd15", SMALL)
    monkeypatch.setattr(Child, "call", call_here)
    monkeypatch.setattr(OnnxExporter, "floors", floors)
    report = benchmark_exports(
        suite(targets={"onnx": ["fp32", "int8"]}), [load_target("onnx")], tmp_path, Silent()
    )
    good, bad = report.rows
    assert (good.precision, bad.precision) == ("fp32", "int8")
    assert good.peak_to_unet == pytest.approx(
        good.peak_rss_bytes / report.unet_fp32_bytes, abs=0.01
    )
    assert good.components["unet"].parity.snr_db >= 80
    assert good.seconds > 0
    assert good.bytes > 0
    assert "out of reach" in bad.error
    assert [path.name for path in tmp_path.iterdir()] == ["export.json"]
    stored = json.loads((tmp_path / "export.json").read_text())
    assert ExportCosts.model_validate(stored) == report
    lines = table(report)
    assert "fp32" in lines[1]
    assert "out of reach" in lines[2]
