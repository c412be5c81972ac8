"""What a user can get wrong: one clear line on stderr, exit 2, nothing left behind."""

import errno
import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures.exports import group
from PIL import Image
from safetensors.torch import load_file, save_file

from edgekd import doctor
from edgekd.diffusion import validate
from edgekd.jobs import distill
from edgekd.resources import STARTER
from edgekd.run_folder import run_lock

TEACHER = str(STARTER / "teacher")
Setup = Callable[[Path, Path], list[str]]


def image_bytes(side: int = 64) -> bytes:
    stream = io.BytesIO()
    Image.linear_gradient("L").resize((side, side)).convert("RGB").save(stream, "PNG")
    return stream.getvalue()


def teacher_with(change: Callable[[Path], None]) -> Setup:
    def setup(tmp: Path, teacher: Path) -> list[str]:
        copy = tmp / "teacher"
        shutil.copytree(teacher, copy)
        change(copy)
        return ["--teacher", str(copy)]

    return setup


def data_with(fill: Callable[[Path], str | None]) -> Setup:
    def setup(tmp: Path, teacher: Path) -> list[str]:
        folder = tmp / "images"
        folder.mkdir()
        name = fill(folder)
        return ["--teacher", str(teacher), "--data", str(folder / name if name else folder)]

    return setup


def options(*arguments: str) -> Setup:
    return lambda tmp, teacher: [*arguments, "--teacher", str(teacher)]


def damage(name: str, content: bytes | None = None) -> Callable[[Path], None]:
    """Another content of a file, or none."""

    def change(teacher: Path) -> None:
        (teacher / name).unlink()
        if content:
            (teacher / name).write_bytes(content)

    return change


def dead_decoder(teacher: Path) -> None:
    (path,) = (teacher / "vae").glob("*.safetensors")
    tensors = load_file(path)
    tensors["decoder.conv_out.weight"].zero_()
    save_file(tensors, path, metadata={"format": "pt"})


def put(name: str, content: bytes, caption: str | None = None) -> Callable[[Path], str | None]:
    def fill(folder: Path) -> None:
        (folder / name).write_bytes(content)
        if caption is not None:
            (folder / name).with_suffix(".txt").write_text(caption)

    return fill


def escaping_metadata(folder: Path) -> None:
    (folder.parent / "secret.png").write_bytes(image_bytes())
    (folder / "metadata.jsonl").write_text('{"file_name": "../secret.png", "text": "secret"}\n')


def broken_tar(folder: Path) -> str:
    with tarfile.open(folder / "data.tar", "w") as tar:
        info = tarfile.TarInfo("a.png")
        info.size = len(image_bytes())
        tar.addfile(info, io.BytesIO(image_bytes()))
    content = (folder / "data.tar").read_bytes()
    (folder / "data.tar").write_bytes(content[:600])
    return "data.tar"


def bad_recipe_file(tmp: Path, teacher: Path) -> list[str]:
    (tmp / "recipe.yaml").write_text("name: [")
    return ["--config", str(tmp / "recipe.yaml")]


# What may be wrong with a folder or data has its own tests: here is one of each kind.
CASES: dict[str, tuple[Setup, str]] = {
    "unknown recipe key": (options("--set", "distill.stepz=3"), "unknown key `distill.stepz`"),
    "unknown section": (options("--set", "disstill.steps=3"), "unknown key `disstill`"),
    "wrong type": (options("--set", "distill.steps=many"), "`distill.steps`"),
    "out of range": (options("--set", "distill.steps=0"), "`distill.steps`"),
    "set without value": (options("--set", "distill.steps"), "section.field=value"),
    "no such recipe": (options("--config", "none"), "`--config` must name"),
    "recipe is no YAML": (bad_recipe_file, "must be YAML"),
    "no such target": (options("--target", "toaster"), "`--target` must be one of"),
    "no such suite": (options("--set", "benchmark.suite=none"), "`benchmark.suite` must name"),
    "no such preset": (options("--set", "student.preset=none"), "bk-sdm-small"),
    "arch and preset": (
        options("--set", "student.arch={}", "--set", "student.preset=full"),
        "one student must be given at most",
    ),
    "arch without stages": (options("--set", "student.arch={}"), "`stages` is missing"),
    "no such candidate": (options("--set", "student.candidate={}"), "`student.candidate`"),
    "impossible goal": (
        options("--set", "search.latency_ms=5"),
        "one of `latency_ms` and `speedup` must be left out",
    ),
    "unknown precision": (options("--set", "export.precisions=[fp32, fp7]"), "fp7"),
    "deploy not exported": (options("--set", "export.precisions=[int8]"), "deploy precision"),
    "odd resolution": (options("--set", "data.resolution=60"), "multiple of 8"),
    "no such colour": (options("--set", "data.background=reddish"), "reddish"),
    "no such teacher": (lambda tmp, t: ["--teacher", str(tmp / "none")], "no such folder"),
    "teacher is a file": (lambda tmp, t: ["--teacher", str(t / "model_index.json")], "a file"),
    "no model_index": (teacher_with(damage("model_index.json")), "model_index.json"),
    "damaged weights": (
        teacher_with(damage("unet/diffusion_pytorch_model.safetensors", b"x" * 99)),
        "safetensors",
    ),
    "unusable scheduler": (
        teacher_with(damage("scheduler/scheduler_config.json", b"{}")),
        "scheduler",
    ),
    "dead part": (teacher_with(dead_decoder), "output of the vae_decoder"),
    "no such data": (lambda tmp, t: ["--teacher", str(t), "--data", str(tmp / "none")], "none"),
    "captions missing": (data_with(put("a.png", image_bytes())), "caption"),
    "path escape": (data_with(escaping_metadata), ".."),
    "broken tar": (data_with(broken_tar), "tar"),
}


@pytest.mark.parametrize("case", CASES)
def test_distill_refuses(case, tmp_path, tiny_teacher, run_cli):
    setup, said = CASES[case]
    out = tmp_path / "run"
    arguments = setup(tmp_path, tiny_teacher)
    code, stdout, stderr = run_cli("distill", "--out", str(out), "--json", *arguments)
    last = stderr.strip().splitlines()[-1]
    assert code == 2, stderr
    assert stdout == ""
    assert last.startswith("edgekd: ")
    assert said in last
    assert "Traceback" not in stderr
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["inspect"], "exactly one of"),
        (["inspect", "x", "--arch", "sd15"], "exactly one of"),
        (["inspect", "--arch", "sd99"], "sd15"),
        (["inspect", "no-such-folder"], "no-such-folder"),
        (["export", "no-such-folder", "--out", "exported"], "no-such-folder"),
        (["export", TEACHER, "--out", "exported", "--memory-limit", "6 apples"], "6 apples"),
        (["export", TEACHER, "--out", "exported", "--memory-limit", "60MB"], "got 0.06 GB"),
        (
            ["export", TEACHER, "--out", "exported", "--memory-limit", "6GB", "--tune"],
            "must stand without what measures whole pipelines, but got --tune",
        ),
        (["export", TEACHER, "--out", "exported", "--lora", "none.safetensors"], "no file none"),
        (["benchmark", "export-sd15", "--models", "x"], "its own pipeline"),
        (["benchmark", "export-sd15", "--targets", "none"], "none"),
        (["generate", "no-such-folder", "a cat", "--out", "pictures"], "no-such-folder"),
        (["generate", TEACHER, " ", "--out", "pictures"], "must not be empty"),
        (["export", TEACHER, "--out", "exported", "--prompt", ""], "must not be empty"),
        (["teach", "run", "--config", "none"], "`--config` must name"),
        (["teach", "ablation", "none"], "`SUITE` must name"),
        (["teach", "run", "--set", "data.sources=[none]"], "`--data` (`data.sources`)"),
        (["benchmark", "none"], "`SUITE` must name"),
        (["generate", TEACHER, "a cat"], "Missing option '--out'"),
        (["generate", TEACHER, "a cat", "--out", "x", "--steps", "0"], "'--steps'"),
        (["generate", TEACHER, "a cat", "--out", "x", "--steps", "many"], "'many'"),
        (["generate", TEACHER, "a cat", "--out", "x", "--guidance=-0.5"], "-0.5"),
        (["generate", TEACHER, "a cat", "--out", "x", "--guidance", "inf"], "--guidance < inf"),
        (["generate", TEACHER, "a cat", "--out", "x", "--sampler", "plms"], "must be one of ddim"),
        (["generate", TEACHER, "a cat", "--out", "x", "--height", "70"], "multiples of"),
        (["generate", TEACHER, "-cat", "--out", "x"], "No such option"),
        (["benchmark", "kd-vs-scratch", "--sampler", "plms"], "must be one of ddim"),
        (["generate", TEACHER, "a cat", "--out", "x", "--seed", "9" * 30], "'--seed'"),
        (
            ["generate", TEACHER, "a cat", "--out", "x", "--steps", "5000"],
            "as many as the DDIMScheduler",
        ),
        (["export"], "Missing argument 'pipeline'"),
        (["distill", "--stepz", "3"], "No such option"),
        (["distil"], "No such command 'distil'"),
        (["prepare", "--data", "no-such-folder"], "no-such-folder"),
    ],
)
def test_other_verbs_refuse(arguments, said, tmp_path, monkeypatch, run_cli):
    monkeypatch.chdir(tmp_path)
    code, _, stderr = run_cli(*arguments)
    assert code == 2
    (line,) = stderr.strip().splitlines()
    assert line.startswith("edgekd: ")
    assert said in line
    assert list(tmp_path.iterdir()) == []


def test_without_a_verb_the_help_is_shown(run_cli):
    code, stdout, stderr = run_cli()
    assert (code, stdout) == (2, "")
    assert "Usage: " in stderr
    assert "distill" in stderr


def test_help_and_version_are_no_errors(run_cli):
    for arguments in (["--help"], ["generate", "--help"], ["--version"]):
        code, stdout, stderr = run_cli(*arguments)
        assert (code, stderr) == (0, "")
        assert stdout


def test_ctrl_c_is_one_line(run_cli, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "examine", interrupted)
    code, _, stderr = run_cli("doctor")
    assert code == 130
    assert stderr.startswith("edgekd: interrupted")
    assert len(stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("verb", [["export", TEACHER], ["generate", TEACHER, "a cat"]])
def test_an_out_that_cannot_be_made_is_refused_before_the_work(verb, tmp_path, run_cli):
    """Neither a place below a file nor one that has no disk is called full."""
    (tmp_path / "file").write_text("mine")
    places = [tmp_path / "file" / "out", tmp_path / ("n" * 300)]
    for out in [*places, *([Path("/proc/out")] if Path("/proc").is_dir() else [])]:
        code, _, stderr = run_cli(*verb, "--out", str(out))
        assert code == 2
        assert "the out folder must be writable, but got" in stderr
        assert len(stderr.strip().splitlines()) == 1


def test_bad_data_is_found_before_the_teacher_is_read(tmp_path, run_cli, monkeypatch):
    monkeypatch.setattr(validate, "inspect_teacher", pytest.fail)
    out = str(tmp_path / "run")
    for verb in ("distill", "prepare"):
        code, _, stderr = run_cli(verb, "--data", str(tmp_path / "none"), "--out", out)
        assert code == 2
        assert "`--data` (`data.sources`) must be a local path" in stderr


@group("onnx", "starter_teacher")
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("manifest.json", "{}", "manifest of format"),
        ("manifest.json", "[]", "manifest of format"),
        ("unet/model.onnx", "no model", "weights of a finished folder must be as"),
        ("unet/config.json", "{", "must load in onnx"),
    ],
)
def test_generate_refuses_a_damaged_export(name, content, said, tmp_path, run_cli, starter_export):
    folder = shutil.copytree(starter_export, tmp_path / "exported")
    (folder / name).write_text(content)
    code, _, stderr = run_cli("generate", str(folder), "a cat", "--out", str(tmp_path / "pictures"))
    assert code == 2
    assert said in stderr.strip().splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["exported"]


def refused_run(run_cli, teacher: Path, out: Path) -> str:
    code, _, stderr = run_cli("distill", "--teacher", str(teacher), "--out", str(out))
    assert code == 2
    return stderr.strip().splitlines()[-1]


def test_out_is_a_file(tmp_path, tiny_teacher, run_cli):
    (tmp_path / "run").write_text("mine")
    assert "must be writable" in refused_run(run_cli, tiny_teacher, tmp_path / "run")
    assert (tmp_path / "run").read_text() == "mine"


def test_locked_run_folder(tmp_path, tiny_teacher, run_cli):
    with run_lock(tmp_path / "run"):
        said = refused_run(run_cli, tiny_teacher, tmp_path / "run")
    assert "one process may work on a run folder" in said


def test_full_disk_is_one_line(tmp_path, tiny_teacher, run_cli, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(distill, "prepare_data", full)
    assert "the disk must have room" in refused_run(run_cli, tiny_teacher, tmp_path / "run")
