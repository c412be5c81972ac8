"""Options of the runtime, timed on a real export."""

from pathlib import Path

import numpy as np
import pytest

from edgekd.errors import InputError
from edgekd.export.manifest import content_hash, read_manifest
from edgekd.export.onnx.exporter import OnnxExporter
from edgekd.export.onnx.pipeline import RuntimeOptions, load_onnx_pipeline, stored_options
from edgekd.export.onnx.tune import candidates, tune
from edgekd.export.protocol import ExportOptions, Generation
from edgekd.export.record import Session, draw
from edgekd.files import write_json
from edgekd.progress import Silent
from edgekd.reading import read_json


@pytest.fixture(scope="module")
def exported(shallow_teacher, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tune") / "fp32"
    options = ExportOptions(("cat",), generation=Generation(steps=2))
    return OnnxExporter().export(shallow_teacher, out, "fp32", Silent(), options).path


def test_choice_is_stored_with_its_figures_and_changes_no_file(exported):
    before = content_hash(exported)
    result = tune(exported, 1, warmup=1, runs=2)
    manifest = read_manifest(exported)
    assert manifest.tuning == result
    figures = result.model_dump()["candidates"]
    assert figures.keys() == candidates(1).keys()
    assert all(item["p50_ms"] > 0 for item in figures.values())
    assert stored_options(exported) == RuntimeOptions(**result.chosen)
    assert content_hash(exported) == before == manifest.content_hash


def test_two_calls_draw_what_one_call_draws(exported):
    manifest = read_json(exported / "manifest.json")
    session = Session(prompts=("red apple",), steps=2, guidance_scale=4.0)
    images = []
    for fused in (True, False):
        chosen = {"threads": 1, "fused_guidance": fused}
        write_json(exported / "manifest.json", {**manifest, "tuning": {"chosen": chosen}})
        images.append(draw(load_onnx_pipeline(exported, 1), session))
    write_json(exported / "manifest.json", manifest)
    np.testing.assert_allclose(*images, atol=1e-4)


def test_wrong_options_are_refused(exported):
    manifest = read_json(exported / "manifest.json")
    write_json(
        exported / "manifest.json", {**manifest, "tuning": {"chosen": {"optimization": "most"}}}
    )
    with pytest.raises(InputError, match="most"):
        stored_options(exported)
    write_json(exported / "manifest.json", manifest)
    with pytest.raises(InputError, match="threads=0"):
        tune(exported, 0)
