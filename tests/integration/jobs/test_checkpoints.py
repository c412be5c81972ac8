"""Checkpoints in one file, wherever a verb takes a pipeline."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from fixtures.checkpoints import SIZE, make_pipeline, save_checkpoint, to_checkpoint
from safetensors.torch import load_file, save_file

from edgekd.diffusion.validate import inspect_teacher
from edgekd.jobs.plan import make_plan
from edgekd.jobs.prepare import prepare_run
from edgekd.progress import Silent
from edgekd.recipe import load_recipe
from edgekd.resources import find_yaml
from edgekd.target import load_target

OPTIONS = ("--prediction-type", "epsilon", "--size", "64")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    state = to_checkpoint(make_pipeline("sd1"), "sd1")
    return save_checkpoint(state, path, **{"modelspec.resolution": f"{SIZE}x{SIZE}"})


def test_import_and_inspect(checkpoint, tmp_path, run_cli):
    out = tmp_path / "teacher"
    code, said, _ = run_cli("import", str(checkpoint), "--out", str(out), *OPTIONS)
    assert code == 0
    assert said.splitlines() == [
        "sd1, epsilon (as asked for), 64 pixels, U-Net",
        f"pipeline: {out}",
    ]
    code, said, _ = run_cli("import", str(checkpoint), "--out", str(out), "--json")
    assert code == 0
    facts = json.loads(said)
    assert facts["path"] == str(out)
    assert (facts["family"], facts["prediction"], facts["size"]) == ("sd1", "epsilon", SIZE)
    whole = [
        json.loads(run_cli("inspect", str(path), "--json")[1])["components"]
        for path in (checkpoint, out)
    ]
    assert whole[0] == whole[1]


def test_generate(checkpoint, tmp_path, run_cli):
    # Another one than those that this process has imported.
    file, out = tmp_path / "model.safetensors", tmp_path / "pictures"
    shutil.copyfile(checkpoint, file)
    code, _, said = run_cli("generate", str(file), "cat", "--out", str(out), "--steps", "1")
    assert (code, [path.name for path in out.iterdir()]) == (0, ["0000.png"])
    assert f"model.safetensors: sd1, epsilon (as its family), {SIZE} pixels" in said


def test_export(tmp_path, run_cli):
    """Of Stable Diffusion 2, whose config has most that others do not."""
    file, out = tmp_path / "model.safetensors", tmp_path / "exported"
    state = to_checkpoint(make_pipeline("sd2", "v_prediction"), "sd2")
    save_checkpoint(state, file, **{"modelspec.resolution": f"{SIZE}x{SIZE}"})
    arguments = ("--out", str(out), "--steps", "2", "--precision", "fp32")
    code, _, said = run_cli("export", str(file), *arguments)
    assert code == 0, said
    code, _, said = run_cli("generate", str(out), "cat", "--out", str(tmp_path / "pictures"))
    assert code == 0, said


@pytest.fixture
def recipe(checkpoint, fill_folder, tmp_path):
    images = fill_folder(tmp_path / "images", 12)
    names = [f"teacher.path={json.dumps(str(checkpoint))}", f"data.sources=[{images}]"]
    names.append("data.split.image_fraction=0.4")
    return load_recipe(find_yaml("configs", "starter"), names)


def test_a_run_imports_its_teacher_once(recipe, checkpoint, tmp_path):
    run = tmp_path / "run"
    for _ in range(2):
        plan = make_plan(recipe, load_target("onnx"), run)
        assert plan.teacher.path == run / "imported"
        assert plan.recipe.teacher.path == str(checkpoint)
        assert plan.recipe.data.resolution == SIZE
        made = {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}
        key = plan.teacher.key
    again = make_plan(recipe, load_target("onnx"), run)
    assert again.teacher.key == key
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")} == made


def test_prepare(recipe, tmp_path):
    summary = prepare_run(recipe, tmp_path / "run", Silent())
    assert summary.cache.is_dir()
    assert inspect_teacher(tmp_path / "run" / "imported").resolution == SIZE


def test_a_checkpoint_inside_the_run_is_refused(checkpoint, tmp_path, run_cli):
    run = tmp_path / "run"
    run.mkdir()
    inside = run / "model.safetensors"
    inside.write_bytes(checkpoint.read_bytes())
    code, _, said = run_cli("prepare", "--teacher", str(inside), "--out", str(run))
    assert (code, "must lie outside the out folder" in said) == (2, True)
    code, _, said = run_cli("import", str(inside), "--out", str(run))
    assert (code, "must lie outside the out folder" in said) == (2, True)
    assert list(run.iterdir()) == [inside]


def _lora(path: Path) -> None:
    save_file({"lora_unet_x.lora_down.weight": torch.ones(2, 2)}, path)


def _flux(path: Path) -> None:
    save_file({"double_blocks.0.img_attn.qkv.weight": torch.ones(2, 2)}, path)


def _not_finite(path: Path) -> None:
    state = to_checkpoint(make_pipeline("sd1"), "sd1")
    name = "model.diffusion_model.out.2.bias"
    save_checkpoint({**state, name: state[name] / 0}, path)


BAD = [
    ("model.safetensors", lambda path: path.write_bytes(b""), "but got 0 bytes"),
    ("model.safetensors", lambda path: path.write_bytes(b"x" * 100), "whole safetensors file"),
    ("model.safetensors", _lora, "a LoRA in model.safetensors"),
    ("model.safetensors", _flux, "Flux in model.safetensors"),
    ("model.safetensors", _not_finite, "must be finite"),
    ("model.ckpt", lambda path: path.write_bytes(b"\x80\x02"), "weights_only=True"),
    ("model.pt", lambda path: path.write_bytes(b"PK"), "weights_only=True"),
    ("model.zip", lambda path: path.write_bytes(b"PK"), "a .safetensors file"),
    ("model.safetensors", lambda path: None, "no such folder"),
]


@pytest.mark.parametrize(("name", "write", "said"), BAD)
@pytest.mark.parametrize("verb", ["import", "inspect", "export", "distill"])
def test_bad_files_are_one_line(verb, name, write, said, tmp_path, monkeypatch, run_cli):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / name)
    before = sorted(tmp_path.iterdir())
    arguments = {
        "import": [name, "--out", "out"],
        "inspect": [name],
        "export": [name, "--out", "out"],
        "distill": ["--teacher", name, "--out", "out"],
    }
    code, _, error = run_cli(verb, *arguments[verb])
    assert code == 2
    (line,) = error.strip().splitlines()
    assert said in line
    assert sorted(tmp_path.iterdir()) == before


def test_the_safe_way_of_the_docs(checkpoint, tmp_path, monkeypatch):
    """Python in `docs/teachers.md` makes of a pickle what `import` takes."""
    page = (Path(__file__).parents[3] / "docs" / "teachers.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    state = load_file(checkpoint)
    torch.save({"state_dict": state, "global_step": 1}, "model.ckpt")
    exec(code, {})
    made = load_file("model.safetensors")
    assert made.keys() == state.keys()
    assert all(torch.equal(made[name], state[name]) for name in state)


def test_import_takes_no_folder(starter_teacher, tmp_path, run_cli):
    code, _, said = run_cli("import", str(starter_teacher), "--out", str(tmp_path / "out"))
    assert (code, "takes a checkpoint in one file" in said) == (2, True)


def test_import_replaces_nothing_of_others(checkpoint, tmp_path, run_cli):
    (tmp_path / "notes.txt").write_text("mine")
    code, _, said = run_cli("import", str(checkpoint), "--out", str(tmp_path))
    assert (code, "nothing but edgekd's own files" in said) == (2, True)
    assert read_names(tmp_path) == ["notes.txt"]


def read_names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]
