"""Bundles for Android, iOS and macOS: contents, refusals, and what is said of them."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from fixtures.bundles import toy_export

from edgekd.bundle.android import MODEL
from edgekd.bundle.build import build
from edgekd.bundle.contents import read_contents
from edgekd.bundle.ios import VECTORS
from edgekd.bundle.kind import template
from edgekd.bundle.manifest import read_bundle
from edgekd.bundle.phones import SAMPLERS
from edgekd.bundle.registry import get_kind
from edgekd.errors import InputError
from edgekd.export.coreml.precisions import PRECISIONS as COREML
from edgekd.export.onnx.precisions import PRECISIONS as ONNX
from edgekd.files import hash_tree, write_json
from edgekd.progress import Silent
from edgekd.resources import data_root
from edgekd.target import load_target

NAMES = ("android", "ios", "macos")
PLACES = {"android": MODEL, "ios": Path("Model"), "macos": Path("Model")}


@pytest.fixture(scope="module")
def exports(tmp_path_factory) -> dict[str, Path]:
    """By kind: what its target makes, without weights."""
    root = tmp_path_factory.mktemp("exports")
    found = {name: toy_export(root / name, precision="any") for name in NAMES}
    for part in ("unet", "text_encoder", "vae_decoder"):
        (found["android"] / part / "model.onnx").rename(found["android"] / part / "model.ort")
        for name in ("ios", "macos"):
            (found[name] / part / "model.onnx").unlink()
            package = found[name] / part / "Part.mlpackage" / "Data"
            package.mkdir(parents=True)
            (package / "weight.bin").write_bytes(bytes(64))
    return found


def change_scheduler(export: Path, out: Path, **settings: Any) -> Path:
    shutil.copytree(export, out)
    path = out / "scheduler" / "scheduler_config.json"
    write_json(path, {**json.loads(path.read_text()), **settings})
    return out


@pytest.mark.parametrize("name", NAMES)
def test_bundle_holds_app_model_licences_and_their_list(name, exports, tmp_path):
    made = build(get_kind(name), read_contents(exports[name]), tmp_path / "out", Silent())
    files = set(made.facts.files)
    place = PLACES[name].as_posix()
    assert {f"{place}/model.json", f"{place}/tokenizer/merges.txt", "README.md"} <= files
    assert {"licences/LICENSE", "licences/NOTICE", "licences/STARTER-DATA.md"} <= files
    assert not any("vae_encoder" in name for name in files)
    weights = "unet/model.ort" if name == "android" else "unet/Part.mlpackage/Data/weight.bin"
    assert f"{place}/{weights}" in files
    shipped = {
        path.relative_to(template(name)).as_posix()
        for path in template(name).rglob("*")
        if path.is_file()
    }
    assert shipped
    assert shipped <= files
    assert (name == "macos") == ("Sources/edgekd-pictures/main.swift" in files)
    assert (name == "ios") == ("iOS/PicturesApp.swift" in files)
    if name != "android":
        vectors = data_root() / "export_targets" / "testdata" / "vectors.json"
        assert (made.path / VECTORS).read_bytes() == vectors.read_bytes()
    assert "executed" in (made.path / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_twice_gives_the_same_bytes_and_damage_is_found(name, exports, tmp_path):
    made = [
        build(get_kind(name), read_contents(exports[name]), tmp_path / place, Silent()).path
        for place in ("a", "b")
    ]
    assert hash_tree(made[0], ("artifact.json",)) == hash_tree(made[1], ("artifact.json",))
    read_bundle(made[0])
    (made[0] / PLACES[name] / "tokenizer" / "merges.txt").unlink()
    with pytest.raises(InputError, match=r"merges.txt \(missing or changed\)"):
        read_bundle(made[0])


@pytest.mark.parametrize("name", NAMES)
def test_precisions_are_the_exporter_s_and_the_first_is_the_target_s(name):
    kind = get_kind(name)
    known = ONNX if kind.runtime == "onnx" else COREML
    assert set(kind.precisions) <= set(known)
    assert kind.precisions[0] == load_target(kind.target).deploy
    kind.check()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"_class_name": "PNDMScheduler"}, "PNDMScheduler"),
        ({"_class_name": "DPMSolverMultistepScheduler"}, "dpmsolver\\+\\+ of order 2"),
        (
            {"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True},
            "`use_karras_sigmas` must be off",
        ),
        ({"_class_name": "EulerDiscreteScheduler", "sigma_max": 9.0}, "`sigma_max` must be off"),
    ],
)
def test_samplers_that_the_app_lacks_are_refused(name, settings, told, exports, tmp_path):
    export = change_scheduler(exports[name], tmp_path / "export", **settings)
    with pytest.raises(InputError, match=told):
        build(get_kind(name), read_contents(export), tmp_path / "out", Silent())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_that_the_app_has_are_taken(sampler, exports, tmp_path):
    export = change_scheduler(
        exports["android"], tmp_path / "export", _class_name=sampler, solver_order=1
    )
    build(get_kind("android"), read_contents(export), tmp_path / "out", Silent())


def test_sdxl_is_refused(exports, tmp_path):
    export = tmp_path / "export"
    shutil.copytree(exports["ios"], export)
    index = json.loads((export / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionXLPipeline"
    write_json(export / "model_index.json", index)
    with pytest.raises(InputError, match="SDXL"):
        build(get_kind("ios"), read_contents(export), tmp_path / "out", Silent())


def test_kotlin_and_swift_have_the_samplers_that_python_lets_through():
    sources = (
        template("android") / "core/src/main/kotlin/edgekd/NoiseSchedule.kt",
        template("ios") / "Sources/EdgekdCore/NoiseSchedule.swift",
    )
    for path in sources:
        found = set(re.findall(r'"(\w+Scheduler)"', path.read_text(encoding="utf-8")))
        assert found == set(SAMPLERS)


def test_text_of_the_screen_is_all_there():
    """Names that Android's code and layout use, which only its own build would miss."""
    main = template("android") / "app" / "src" / "main"
    code = "".join(path.read_text() for path in (main / "kotlin").rglob("*.kt"))
    layout = (main / "res" / "layout" / "main.xml").read_text()
    manifest = (main / "AndroidManifest.xml").read_text()
    strings = set(
        re.findall(r'<string name="(\w+)"', (main / "res/values/strings.xml").read_text())
    )
    used = set(re.findall(r"R\.string\.(\w+)", code)) | set(
        re.findall(r"@string/(\w+)", layout + manifest)
    )
    assert used == strings
    assert set(re.findall(r"R\.id\.(\w+)", code)) <= set(re.findall(r"@\+id/(\w+)", layout))
