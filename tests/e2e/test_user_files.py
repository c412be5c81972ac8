"""Nothing of a user's is ever changed or deleted, whatever folder is given as `--out`."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from fixtures.captioned import fill_folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekd.file_record import ARTIFACT_FILE
from edgekd.resources import STARTER
from edgekd.run_folder import MARKER

__all__ = ["fill_folder"]

TEACHER = str(STARTER / "teacher")
# What a user's folder may hold that looks like edgekd's, beside any other name.
NAMES = [
    *("manifest.json", "model_index.json", "unet/model.onnx", "package.json", "app/index.html"),
    *("recipe.yaml", "environment.json", "recipe.json", "cache/a.bin", "prepared/a.tar"),
    *("distill/samples/mine.png", "report/report.html", "export/student/fp32/model", "work/a"),
    *("teacher/unet/a", "shared/a", "variants/a/b", "0000.png", "export.json", "ablation.json"),
    *(".notes.tmp", ".env.old", ".lock", ".out.4194305.tmp/a", ".out.4194305.old/a", ".out.1.tmp"),
    *(".prepared.0123456789abcdef.partial/a", f"sub/{ARTIFACT_FILE}", ".0000.png.part"),
]
VERBS = [
    ["distill", "--teacher", TEACHER],
    ["distill", "--set", "data.resolution=32"],
    ["search", "--teacher", TEACHER],
    ["search", "--measure-only"],
    ["prepare", "--teacher", TEACHER],
    ["export", TEACHER],
    ["export", TEACHER, "--quantize", "auto"],
    ["benchmark", "kd-vs-scratch"],
    ["benchmark", "export-sd15"],
    ["generate", TEACHER, "red apple"],
    ["import", f"{TEACHER}/unet/diffusion_pytorch_model.safetensors"],
    ["teach", "run"],
    ["teach", "evaluate", "starter"],
    ["teach", "ablation", "teacher-ablation"],
    ["teach", "assemble", "RUN"],
]

file_names = st.sampled_from(NAMES) | st.text("ab.-_ é", min_size=1, max_size=12).filter(
    lambda name: name.strip(". ") != ""
)
trees = st.dictionaries(file_names, st.binary(max_size=8), min_size=1, max_size=6)


def plant(tree: dict[str, bytes], root: Path) -> dict[str, bytes]:
    """Write what fits; returns what there is then."""
    for name, content in tree.items():
        try:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        except OSError:
            continue
    return snapshot(root)


def snapshot(root: Path) -> dict[str, bytes]:
    """Content, or the target of a link, by name."""
    return {
        str(path.relative_to(root)): os.readlink(path).encode()
        if path.is_symlink()
        else path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: " ".join(verb[:2]).replace(TEACHER, ""))
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tree=trees, through_a_link=st.booleans())
def test_a_users_folder_is_left_as_it_was(run_cli, verb, tree, through_a_link):
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        mine, out = home / "mine", home / "out"
        mine.mkdir()
        before = plant(tree, mine)
        if through_a_link:
            out.symlink_to(mine)
        else:
            mine.rename(out)
        beside = snapshot(home)
        words = [word.replace("RUN", str(out)) for word in verb]
        target = out if verb[1] != "assemble" else home / "new"
        code, _, stderr = run_cli(*words, "--out", str(target))
        assert code == 2, stderr
        assert len(stderr.strip().splitlines()) == 1
        assert snapshot(out) == before
        assert snapshot(home) == beside


@pytest.fixture(scope="module")
def prepared_run(tmp_path_factory, tiny_teacher, fill_folder):
    """Images, and a run folder that `edgekd prepare` filled."""
    from edgekd.jobs.prepare import prepare_run
    from edgekd.progress import Silent
    from edgekd.recipe import load_recipe
    from edgekd.resources import find_yaml

    home = tmp_path_factory.mktemp("prepared")
    images = fill_folder(home / "images", 24)
    given = [f"teacher.path={tiny_teacher}", f"data.sources=[{images}]", "data.workers=1"]
    recipe = load_recipe(find_yaml("configs", "starter"), given)
    prepare_run(recipe, home / "run", Silent())
    return images, home / "run"


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    tree=trees,
    place=st.sampled_from([".", "prepared", "prepared/shards", "cache", "distill", "mine"]),
)
def test_what_a_user_added_to_a_run_is_left_as_it_was(
    run_cli, prepared_run, tiny_teacher, tree, place
):
    """The run is made anew with other settings, so that all of its results are replaced."""
    images, finished = prepared_run
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        shutil.copytree(finished, run)
        own = set(snapshot(run))
        (run / place).mkdir(exist_ok=True)
        new = {name: text for name, text in tree.items() if not (run / place / name).exists()}
        plant(new, run / place)
        added = {name: text for name, text in snapshot(run).items() if name not in own}
        arguments = ["--teacher", str(tiny_teacher), "--data", str(images), "--out", str(run)]
        code, _, stderr = run_cli("prepare", *arguments, "--set", "data.background='#808080'")
        assert code in (0, 2), stderr
        after = snapshot(run)
        assert {name: after.get(name) for name in added} == added
        assert MARKER in after


@pytest.mark.parametrize("inside", ["teacher", "distill/student"])
def test_a_teacher_in_the_out_folder_is_refused(tmp_path, tiny_teacher, run_cli, inside):
    teacher = tmp_path / "w" / inside
    shutil.copytree(tiny_teacher, teacher)
    before = snapshot(tmp_path)
    arguments = ["--teacher", str(teacher), "--out", str(tmp_path / "w")]
    code, _, stderr = run_cli("distill", *arguments, "--set", "data.resolution=32")
    assert (code, "`--teacher` must lie outside the out folder" in stderr) == (2, True)
    assert snapshot(tmp_path) == before


def test_the_recipe_of_a_run_is_not_overwritten(prepared_run, tmp_path, run_cli):
    shutil.copytree(prepared_run[1], tmp_path / "w")
    (tmp_path / "w" / "mine.yaml").write_text("name: mine")
    for verb in ("distill", "prepare"):
        options = ["--config", str(tmp_path / "w" / "mine.yaml"), "--out", str(tmp_path / "w")]
        code, _, stderr = run_cli(verb, *options, "--set", "distill.steps=1")
        assert (code, "`--config` must lie outside" in stderr) == (2, True)


def test_data_in_the_out_folder_and_the_reverse_are_refused(prepared_run, tmp_path, run_cli):
    images, _ = prepared_run
    inside = tmp_path / "w" / "prepared"
    shutil.copytree(images, inside)
    before = snapshot(tmp_path)
    for data, out in ((inside, tmp_path / "w"), (tmp_path / "w", tmp_path / "w" / "run")):
        code, _, stderr = run_cli("prepare", "--data", str(data), "--out", str(out))
        assert (code, "must lie outside" in stderr) == (2, True)
    assert snapshot(tmp_path) == before


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 9)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [cut, flip, Path.unlink])
@pytest.mark.parametrize(
    "name",
    [
        "prepared/shards/train-000000.tar",
        "prepared/source_hashes.json",
        f"prepared/{ARTIFACT_FILE}",
        "cache/train-000000.safetensors",
        f"cache/{ARTIFACT_FILE}",
    ],
)
def test_what_is_damaged_is_made_again(prepared_run, tmp_path, tiny_teacher, run_cli, harm, name):
    images, finished = prepared_run
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    arguments = ["--teacher", str(tiny_teacher), "--data", str(images), "--out", str(run)]
    arguments += ["--set", "data.workers=1"]
    # The second run remembers the hashes of the images, which were new in the first.
    assert run_cli("prepare", *arguments)[0] == 0
    whole = snapshot(run)
    harm(run / name)
    assert run_cli("prepare", *arguments)[0] == 0
    after = snapshot(run)
    results = [each for each in whole if each.endswith((".tar", ".safetensors"))]
    assert {each: after.get(each) for each in results} == {each: whole[each] for each in results}
    # The third finds nothing to do.
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.tar")}
    assert run_cli("prepare", *arguments)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*.tar")} == before
