import errno
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fixtures.bundles import reference_picture

from edgekd.bundle import build as build_module
from edgekd.bundle.build import build, check_place
from edgekd.bundle.contents import read_contents
from edgekd.bundle.desktop import KIND
from edgekd.bundle.kind import Contents
from edgekd.bundle.manifest import read_bundle
from edgekd.bundle.model import FileFacts, ModelFacts, copy_model
from edgekd.bundle.readme import size_table
from edgekd.errors import InputError
from edgekd.folders import atomic_folder
from edgekd.progress import Progress, Silent

PROGRESS = Silent()


class Plain:
    """The smallest kind there is."""

    name = "plain"
    title = "nothing but the model"
    runtime = "onnx"
    target = "onnx"
    precisions = ("fp32",)
    steps = ("Read it.", "Use it.")
    notes = ("Not executed anywhere.",)

    def check(self) -> None:
        pass

    def fill(self, folder: Path, contents: Contents, progress: Progress) -> None:
        copy_model(contents, folder / "model")


class Stopped(Plain):
    """One that is interrupted half-way."""

    def fill(self, folder: Path, contents: Contents, progress: Progress) -> None:
        super().fill(folder, contents, progress)
        raise KeyboardInterrupt


def listed(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_bundle_lists_all_its_files_and_draws_as_the_export(exported, tmp_path):
    made = build(Plain(), read_contents(exported), tmp_path / "out", PROGRESS)
    files = listed(made.path)
    assert set(files) - {"artifact.json", "bundle.json"} == set(made.facts.files)
    assert made.facts.bytes == sum(len(files[name]) for name in made.facts.files)
    assert not any("vae_encoder" in name for name in files)
    drawn = [reference_picture(at, "red apple", 3) for at in (exported, made.path / "model")]
    assert np.array_equal(*drawn)


def test_model_json_says_how_to_draw(exported, tmp_path):
    build(Plain(), read_contents(exported), tmp_path / "out", PROGRESS)
    model = tmp_path / "out" / "model"
    facts = ModelFacts.model_validate_json((model / "model.json").read_text())
    assert (facts.name, facts.precision) == ("toy-student", "fp32")
    assert facts.generation.model_dump() == {
        "sampler": "DDIMScheduler",
        "steps": 3,
        "guidance_scale": 2.0,
        "height": 64,
        "width": 64,
    }
    assert (facts.latents.channels, facts.latents.scale) == (4, 4)
    assert facts.scheduler["beta_end"] == 0.012
    assert set(facts.files) == set(listed(model)) - {"model.json"}


def test_no_json_of_the_model_holds_infinity(exported, tmp_path):
    """JavaScript refuses it; DPM-Solver's configurations have it."""
    copy = tmp_path / "export"
    shutil.copytree(exported, copy)
    config = copy / "scheduler" / "scheduler_config.json"
    values = {**json.loads(config.read_text()), "lambda_min_clipped": -float("inf")}
    config.write_text(json.dumps(values))
    copy_model(read_contents(copy), tmp_path / "model")
    for name in ("model.json", "scheduler/scheduler_config.json"):
        assert '"-Infinity"' in (tmp_path / "model" / name).read_text()
    assert np.array_equal(*[reference_picture(at, "a", 1) for at in (copy, tmp_path / "model")])


def test_twice_gives_the_same_bytes(exported, tmp_path):
    made = [
        build(KIND, read_contents(exported), tmp_path / name / "out", PROGRESS, zipped=True)
        for name in ("a", "b")
    ]
    first, second = (listed(one.path) for one in made)
    assert first == second
    archives = [one.archive.read_bytes() for one in made if one.archive]
    assert archives[0] == archives[1]


def test_archive_unpacks_to_the_bundle(exported, tmp_path):
    build(KIND, read_contents(exported), tmp_path / "out", PROGRESS)
    (tmp_path / "out" / ".venv").mkdir()  # by somebody who tried it
    (tmp_path / "out" / ".venv" / "large").write_text("x")
    made = build(KIND, read_contents(exported), tmp_path / "out", PROGRESS, zipped=True)
    assert made.archive == tmp_path / "out.zip"
    with zipfile.ZipFile(made.archive) as archive:
        archive.extractall(tmp_path / "unpacked")
        assert not any(".venv" in name for name in archive.namelist())
        modes = {one.filename: one.external_attr >> 16 for one in archive.infolist()}
    unpacked = tmp_path / "unpacked" / "toy-student-desktop"
    assert read_bundle(unpacked) == made.facts
    assert modes["toy-student-desktop/start.sh"] & 0o111
    assert not modes["toy-student-desktop/bundle.json"] & 0o111
    assert not (unpacked / "artifact.json").exists()


def test_a_partly_unpacked_or_changed_bundle_is_refused(exported, tmp_path):
    made = build(Plain(), read_contents(exported), tmp_path / "out", PROGRESS)
    weights = made.path / "model" / "unet" / "model.onnx"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=r"unet/model.onnx \(missing or changed\)"):
        read_bundle(made.path)
    weights.unlink()
    with pytest.raises(InputError, match=r"unet/model.onnx \(missing or changed\)"):
        read_bundle(made.path)
    (made.path / "bundle.json").write_text('{"format": 1}')
    with pytest.raises(InputError, match="must be as edgekd writes it"):
        read_bundle(made.path)


def test_a_bundle_that_is_up_to_date_is_kept_and_another_takes_its_place(
    exported, tmp_path, monkeypatch
):
    class Counts(Plain):
        fills = 0

        def fill(self, folder: Path, contents: Contents, progress: Progress) -> None:
            super().fill(folder, contents, progress)
            self.fills += 1

    kind, out = Counts(), tmp_path / "out"
    for _ in range(2):
        build(kind, read_contents(exported), out, PROGRESS)
    assert kind.fills == 1
    monkeypatch.setattr(build_module, "code_key", lambda: "other code")
    build(kind, read_contents(exported), out, PROGRESS)
    assert kind.fills == 2
    (out / "model" / "model.json").unlink()
    build(kind, read_contents(exported), out, PROGRESS)
    assert kind.fills == 3
    check_place("plain", out, zipped=False)
    build(KIND, read_contents(exported), out, PROGRESS)
    assert (out / "start.sh").is_file()


def test_nothing_but_a_bundle_of_the_same_kind_is_replaced(exported, tmp_path):
    out = build(Plain(), read_contents(exported), tmp_path / "out", PROGRESS).path
    with pytest.raises(InputError, match=r"an earlier bundle for desktop, but got .*\(for plain\)"):
        check_place("desktop", out, zipped=False)
    result = tmp_path / "result"
    with atomic_folder(result) as folder:
        (folder / "model.onnx").write_bytes(b"hours of work")
    with pytest.raises(InputError, match=r"an earlier bundle for plain, but got .*\(no bundle\)"):
        check_place("plain", result, zipped=False)
    (tmp_path / "empty").mkdir()
    check_place("plain", tmp_path / "empty", zipped=False)


def test_an_interrupted_bundle_leaves_nothing(exported, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        build(Stopped(), read_contents(exported), tmp_path / "new" / "out", PROGRESS)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    made = build(Plain(), read_contents(exported), tmp_path / "out", PROGRESS)
    with pytest.raises(KeyboardInterrupt):
        build(Stopped(), read_contents(exported, None), tmp_path / "other", PROGRESS)
    assert read_bundle(made.path) == made.facts


def test_a_full_disk_is_one_line_and_leaves_nothing(exported, tmp_path, monkeypatch):
    def fail(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", fail)
        with pytest.raises(InputError, match="the disk must have room"):
            build(Plain(), read_contents(exported), tmp_path / "out", PROGRESS)
    assert list(tmp_path.iterdir()) == []
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match=r"must have room for the bundle, about 51 MB.*1 MB free"):
        build(Plain(), read_contents(exported), tmp_path / "out", PROGRESS)


def test_nothing_of_others_is_replaced(exported, tmp_path):
    out = tmp_path / "out"
    build(Plain(), read_contents(exported), out, PROGRESS)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt"):
        check_place("plain", out, zipped=False)


def test_no_archive_but_of_the_same_kind_is_replaced(exported, tmp_path):
    build(Plain(), read_contents(exported), tmp_path / "out", PROGRESS, zipped=True)
    check_place("plain", tmp_path / "out", zipped=True)
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(InputError, match=r"bundle for desktop, but got .*out\.zip \(for plain\)"):
        check_place("desktop", tmp_path / "out", zipped=True)
    shutil.copy(tmp_path / "out.zip", tmp_path / "kept.zip")
    (tmp_path / "link.zip").symlink_to("kept.zip")
    (tmp_path / "text.zip").write_bytes(b"mine")
    content = bytearray((tmp_path / "kept.zip").read_bytes())
    content[content.index(b"/bundle.json") + 40] ^= 255  # in its packed content
    (tmp_path / "broken.zip").write_bytes(content)
    for name, place, text in (("deep", "a/b/", "{}"), ("other", "a/", '{"kind": "plain"}')):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr(f"{place}bundle.json", text)
    for name in ("link", "text", "broken", "deep", "other"):
        with pytest.raises(InputError, match=r"must write a new file, .*\.zip \(no bundle\)"):
            check_place("plain", tmp_path / name, zipped=True)


def test_readme_has_steps_sizes_notes_and_licence(exported, tmp_path):
    made = build(Plain(), read_contents(exported), tmp_path / "out", PROGRESS)
    text = (made.path / "README.md").read_text()
    for line in ("# toy-student: nothing but the model", "1. Read it.", "2. Use it."):
        assert line in text.splitlines()
    assert "> Not executed anywhere." in text
    assert "64x64 pictures in 3 steps of DDIMScheduler with guidance scale 2" in text
    assert "| `model/tokenizer/` | 0.1 |" in text
    assert "CC-BY-4.0" in text
    assert "Twemoji" in (made.path / "licences" / "STARTER-DATA.md").read_text()


def test_a_kind_may_add_licences_but_not_replace_ours(exported, tmp_path):
    class Adds(Plain):
        file = "onnxruntime.txt"

        def fill(self, folder: Path, contents: Contents, progress: Progress) -> None:
            (folder / "licences").mkdir()
            (folder / "licences" / self.file).write_text("MIT")

    made = build(Adds(), read_contents(exported), tmp_path / "out", PROGRESS)
    assert "licences/onnxruntime.txt" in made.facts.files
    Adds.file = "NOTICE"
    with pytest.raises(InputError, match="names of their own"):
        build(Adds(), read_contents(exported), tmp_path / "other", PROGRESS)


def test_a_row_of_the_size_table_says_that_parts_of_it_have_their_own():
    def facts(size: int) -> FileFacts:
        return FileFacts(bytes=size, sha256="")

    files = {
        "site/index.html": facts(2_000_000),
        "site/model/model.json": facts(60_000),
        "site/model/chunks/a": facts(4_000_000),
    }
    assert "| `site/`, the rest | 2.0 |" in size_table(files)
    assert "| `site/model/chunks/` | 4.0 |" in size_table(files)
