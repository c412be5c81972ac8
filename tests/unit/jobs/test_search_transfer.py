"""The suite that asks whether a device needs its own student."""

import pytest

from edgekd.benchmark.search_suites import TransferSuite
from edgekd.benchmark.suite import load_any_suite
from edgekd.errors import InputError
from edgekd.jobs.search_transfer import Transfer, transfer_lines
from edgekd.resources import find_yaml
from edgekd.target import load_target


def test_the_shipped_suites_settings_are_precisions_of_their_targets():
    suite = load_any_suite(find_yaml("benchmarks", "search-transfer"))
    assert isinstance(suite, TransferSuite)
    for setting in suite.settings:
        assert setting.precision in load_target(setting.target).precisions


def test_two_settings_of_one_name_are_refused():
    setting = {"name": "a", "target": "onnx", "precision": "fp32"}
    suite = {"kind": "search-transfer", "name": "x", "speedup": 20, "settings": [setting] * 2}
    with pytest.raises(ValueError, match="names of `settings` must differ, but got 'a' twice"):
        TransferSuite.model_validate(suite)


def test_an_unknown_kind_of_suite_is_refused(tmp_path):
    path = tmp_path / "suite.yaml"
    path.write_text("kind: transfer\nname: x\n")
    with pytest.raises(InputError, match="must be one of export, search-transfer"):
        load_any_suite(path)


def test_the_matrix_has_a_row_for_each_settings_student():
    entry = {
        "arch": {"stages": [{}]}, "decoder_width": 1.0, "steps": 2, "precision": "fp32",
        "intact": True, "latency_ms": 10.0, "measured": True, "quality": 0.9, "bytes": 1,
        "peak_bytes": 1, "speedup": 20.0, "label": "2 steps", "file": "front/0.json",
    }  # fmt: skip
    cells = [
        {"on": on, "student_of": of, "latency_ms": ms, "ratio": ratio, "quality": 0.9}
        for on, of, ms, ratio in [("a", "a", 10, 1), ("a", "b", 12, 1.2), ("b", "a", 9, 1.5),
                                  ("b", "b", 6, 1)]
    ]  # fmt: skip
    found = Transfer.model_validate(
        {"suite": "s", "speedup": 20, "students": {"a": entry, "b": entry},
         "reasons": {"a": "why", "b": "why not"}, "cells": cells, "environment": {}}
    )  # fmt: skip
    text = "\n".join(transfer_lines(found))
    assert "10 ms (1.00)" in text
    assert "9 ms (1.50)" in text
    assert "b: why not" in text
