"""What every exporter owes, whatever its runtime, on every kind of pipeline."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.exports import GUIDANCE, PROMPTS, STEPS, group

from edgekd.artifacts import ExportedPipeline
from edgekd.diffusion.load import load_pipeline
from edgekd.errors import GateError, InputError
from edgekd.export import steps
from edgekd.export.capture import capture
from edgekd.export.keys import export_key
from edgekd.export.manifest import content_hash, read_manifest, source_hash
from edgekd.export.outline import PIPELINE_ATTRIBUTES
from edgekd.export.protocol import (
    Conversion,
    ConvertsFiles,
    ExportOptions,
    Floor,
    Floors,
    Generation,
    LoadsInTurns,
)
from edgekd.export.record import Session, draw
from edgekd.export.registry import exporters, get_exporter
from edgekd.files import hash_tree
from edgekd.model_card import read_header
from edgekd.progress import Silent
from edgekd.target import list_targets

GENERATION = Generation(STEPS, GUIDANCE)
PIPELINES = (
    "shallow_teacher",
    "shallow_sd2_teacher",
    "shallow_sdxl_teacher",
    "tiny_cut_student",
    "tiny_lcm_student",
)
REACHED = Floor(0.0, "whatever is not noise")
# The pipeline that asks most of a converter.
HARDEST = "tiny_cut_student"
# Rounded activations keep their floor with trained weights; with random ones the gate refuses them.
TRAINED = {("onnx", "ort-int8"): "starter_teacher"}


def _shipped(name: str) -> list[str]:
    """The first precision of an exporter, from which others start, and those of shipped targets.

    What else an exporter can do, the tests of its own modules hold against small parts.
    """
    used = {p for target in list_targets() if target.runtime == name for p in target.precisions}
    precisions = get_exporter(name).precisions
    return [p for p in precisions if p in used or p == precisions[0]]


CASES = [(name, precision) for name in exporters() for precision in _shipped(name)]
# Every kind of pipeline in the first precision, every precision on the hardest pipeline.
HARD = [
    pytest.param(name, precision, pipeline, marks=group(name, pipeline))
    for name, precision in CASES
    for pipeline in [TRAINED.get((name, precision), HARDEST)]
]
PAIRS = [
    *HARD,
    *(
        pytest.param(name, precision, pipeline, marks=group(name, pipeline))
        for name in exporters()
        for precision in get_exporter(name).precisions[:1]
        for pipeline in PIPELINES
        if pipeline != HARDEST
    ),
]

ON_HARDEST = [pytest.param(name, marks=group(name, HARDEST)) for name in exporters()]

Export = Callable[[str, str, str], tuple[Path, ExportedPipeline]]


@pytest.fixture(scope="module")
def tiny_cut_student(tiny_teacher, tmp_path_factory) -> Path:
    """No mid block, three stages, one residual pair in each, transformers of unequal depth, and a
    scheduler whose timesteps are fractions."""
    import torch

    from edgekd.libraries import diffusers

    path = tmp_path_factory.mktemp("students") / "cut"
    shutil.copytree(tiny_teacher, path)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        unet = diffusers.UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(32, 32, 64),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            mid_block_type=None,
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            transformer_layers_per_block=(1, 2, 1),
            attention_head_dim=4,
            norm_num_groups=8,
            cross_attention_dim=32,
        )
    shutil.rmtree(path / "unet")
    unet.save_pretrained(path / "unet", safe_serialization=True)
    shutil.rmtree(path / "scheduler")
    diffusers.EulerDiscreteScheduler(beta_schedule="scaled_linear").save_pretrained(
        path / "scheduler"
    )
    index = (path / "model_index.json").read_text(encoding="utf-8")
    index = index.replace("DDIMScheduler", "EulerDiscreteScheduler")
    (path / "model_index.json").write_text(index, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def export(request, export_to) -> Export:
    """Source and export of a case."""

    def make(name: str, pipeline: str, precision: str) -> tuple[Path, ExportedPipeline]:
        source = request.getfixturevalue(pipeline)
        return source, export_to(source, name, precision)

    return make


def _export(
    name: str, source: Path, out: Path, precision: str, base: Path | None = None
) -> ExportedPipeline:
    options = ExportOptions(PROMPTS, generation=GENERATION, base=base)
    return get_exporter(name).export(source, out, precision, Silent(), options)


@pytest.mark.parametrize(("name", "precision", "pipeline"), PAIRS)
def test_export_proves_every_part(export, name, precision, pipeline):
    source, exported = export(name, pipeline, precision)
    manifest = read_manifest(exported.path)
    expected = set(PIPELINE_ATTRIBUTES)
    if pipeline != "shallow_sdxl_teacher":
        expected.remove("text_encoder_2")
    assert set(manifest.components) == expected
    for facts in manifest.components.values():
        assert facts.parity.floor_db <= facts.parity.snr_db <= 200
        assert facts.parity.executed_by
        assert facts.bytes > 0
        assert facts.seconds > 0
        assert facts.peak_rss_bytes > facts.bytes
    calls = manifest.components["unet"].parity.calls
    native = [call for call in calls if call["shape"] == calls[0]["shape"]]
    assert len({call["timestep"] for call in native}) == GENERATION.steps
    pictures = [manifest.pictures]
    if get_exporter(name).dynamic_shapes:
        # Another batch and other sides, for the U-Net alone and for whole pictures.
        assert any(
            call["shape"][0] == 3 and call["shape"][2:] != calls[0]["shape"][2:] for call in calls
        )
        pictures.append(manifest.pictures.other)
        assert len(pictures[1].images_db) == 3
    assert all(row.psnr_db >= row.floor_db for row in pictures)
    assert manifest.source.hash == hash_tree(source, exclude=("README.md",))
    assert manifest.recommended == GENERATION
    header = read_header(exported.path)
    assert header["model_name"].endswith(f"-{name}-{precision}")
    assert header["inference"]["parameters"] == {
        "num_inference_steps": STEPS,
        "guidance_scale": GUIDANCE,
    }
    assert (manifest.runtime, manifest.precision) == (name, precision)
    assert (exported.runtime, exported.precision) == (name, precision)


@pytest.mark.parametrize(("name", "precision", "pipeline"), PAIRS)
def test_loaded_export_draws_other_batches_and_sizes(export, name, precision, pipeline):
    exporter = get_exporter(name)
    _, exported = export(name, pipeline, precision)
    drawer = exporter.load(exported.path, 1)
    shapes = read_manifest(exported.path).shapes
    height, width = shapes.native
    if exporter.dynamic_shapes:
        height, width = height + shapes.multiple, height + 2 * shapes.multiple
    images = drawer(
        "blue car",
        height=height,
        width=width,
        num_images_per_prompt=3,
        num_inference_steps=2,
        output_type="np",
    ).images
    assert images.shape == (3, height, width, 3)
    assert np.isfinite(images).all()
    assert np.ptp(images) > 0


@pytest.mark.parametrize("name", ON_HARDEST)
def test_pictures_equal_torch_at_another_size(export, name):
    """Shapes that were not traced give torch's pictures too, not just some picture."""
    import torch

    exporter = get_exporter(name)
    if not exporter.dynamic_shapes:
        return
    source, exported = export(name, "tiny_cut_student", exporter.precisions[0])
    options: dict[str, Any] = {"num_inference_steps": 2, "output_type": "np", "guidance_scale": 1.0}
    options |= {"height": 64, "width": 48}
    reference, images = (
        pipeline("cat", generator=torch.Generator().manual_seed(3), **options).images
        for pipeline in (load_pipeline(source), exporter.load(exported.path, 1))
    )
    np.testing.assert_allclose(images, reference, atol=1e-3)  # a quarter of a grey level


@pytest.mark.parametrize("name", ON_HARDEST)
def test_parts_in_turns_draw_the_same_pictures(export, name):
    """As the pictures of a large export are checked; the second one opens every part again."""
    exporter = get_exporter(name)
    if not isinstance(exporter, LoadsInTurns):
        return
    _, exported = export(name, "tiny_cut_student", exporter.precisions[0])
    session = Session(prompts=("cat", "red car"), steps=2, guidance_scale=4.0, seed=3)
    whole, in_turns = (
        draw(load(exported.path, 1), session) for load in (exporter.load, exporter.load_in_turns)
    )
    np.testing.assert_allclose(in_turns, whole, atol=1e-5)


@pytest.mark.parametrize(("name", "precision", "pipeline"), HARD)
def test_large_part_is_made_of_the_first_precision_without_weights(
    export, tmp_path, name, precision, pipeline
):
    exporter = get_exporter(name)
    made = exporter.from_files if isinstance(exporter, ConvertsFiles) else ()
    if precision not in made:
        return
    source, exported = export(name, pipeline, precision)
    _, first = export(name, pipeline, exporter.precisions[0])
    outline = load_pipeline(source, only=())
    part = "text_encoder"
    converted = Conversion(capture(outline, part), tmp_path / part, base=first.path / part)
    exporter.convert(converted, precision)
    if precision not in exporter.varying:
        assert hash_tree(tmp_path / part) == hash_tree(exported.path / part)


@pytest.mark.parametrize(("name", "precision", "pipeline"), HARD)
def test_equal_source_gives_an_equal_key(export, tmp_path, name, precision, pipeline):
    """Also where an export started from another precision's."""
    source, exported = export(name, pipeline, precision)
    copy = shutil.copytree(source, tmp_path / "elsewhere")
    options = ExportOptions(PROMPTS, generation=GENERATION)
    key = export_key(get_exporter(name), source_hash(copy), precision, options)
    assert key == exported.key == read_manifest(exported.path).key


@pytest.mark.parametrize(("name", "precision", "pipeline"), HARD)
def test_manifest_says_whether_bytes_repeat(export, name, precision, pipeline):
    _, exported = export(name, pipeline, precision)
    reproducible = precision not in get_exporter(name).varying
    assert read_manifest(exported.path).reproducible == reproducible


@pytest.mark.parametrize("name", ON_HARDEST)
def test_equal_source_gives_equal_files(export, tmp_path, name):
    """Also where one export started from another precision's, and the other did not."""
    varying = get_exporter(name).varying
    fixed = [precision for precision in _shipped(name) if precision not in varying]
    # The last of them starts from the first where any does.
    for precision in fixed[-1:]:
        source, exported = export(name, HARDEST, precision)
        copy = shutil.copytree(source, tmp_path / "elsewhere")
        again = _export(name, copy, tmp_path / "out", precision)
        assert content_hash(again.path) == content_hash(exported.path)
        assert again.key == exported.key


@pytest.mark.parametrize("name", exporters())
def test_unknown_precision_is_refused(tmp_path, tiny_teacher, name):
    with pytest.raises(InputError, match="fp3"):
        _export(name, tiny_teacher, tmp_path / "out", "fp3")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("gate", ["part", "picture"])
@pytest.mark.parametrize("name", ON_HARDEST)
def test_failed_gate_keeps_the_earlier_export_alone(export, tmp_path, monkeypatch, name, gate):
    exporter = get_exporter(name)
    source, earlier = export(name, "tiny_cut_student", exporter.precisions[0])
    out = shutil.copytree(earlier.path, tmp_path / "out")
    floors = replace(Floors(REACHED, REACHED), **{gate: Floor(1e9, "out of reach")})
    monkeypatch.setattr(type(exporter), "floors", lambda *_: floors)
    monkeypatch.setattr(steps, "own_floor", lambda *_: None)  # it is an honest export
    with pytest.raises(GateError, match=r"out of reach") as failure:
        _export(name, source, out, exporter.precisions[0], base=earlier.path)
    assert failure.value.exit_code == 3
    assert hash_tree(out) == hash_tree(earlier.path)
    assert list(tmp_path.iterdir()) == [out]
