from pathlib import Path

import pytest

from edgekd.file_record import finish
from edgekd.runtime.__main__ import main
from edgekd.runtime.conditions import open_encoders
from edgekd.runtime.folder import read_folder
from edgekd.runtime.pipeline import Pipeline


def test_pictures_are_never_replaced(folder, tmp_path, capsys):
    (tmp_path / "0001.png").write_bytes(b"mine")
    assert main([str(folder), "red apple", "blue car", "--out", str(tmp_path)]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert "pictures must not be there yet, but got" in error
    assert error.count("\n") == 1
    assert (tmp_path / "0001.png").read_bytes() == b"mine"


def test_errors_end_in_one_line(folder, tmp_path, capsys):
    out = tmp_path / "pictures"
    assert main([str(folder), "red apple", "--out", str(out), "--steps", "0"]) == 2
    assert "1 <= steps <= 1000" in capsys.readouterr().err
    assert main([str(folder), "red apple", "--out", str(out)]) == 2
    assert "must hold model.onnx" in capsys.readouterr().err  # this folder has no parts
    assert main([str(folder), "red apple", "--out", str(out), "--seed", "-4"]) == 2
    assert capsys.readouterr().err == "error: `0 <= seed < 2**64` must hold, but got seed=-4\n"
    assert not out.exists()


def test_damaged_weights_and_empty_prompts_are_refused(folder, tmp_path, capsys):
    (folder / "unet" / "model.onnx").write_bytes(b"whole")
    finish(folder, "key")
    (folder / "unet" / "model.onnx").write_bytes(b"wholf")
    for prompt, said in (("apple", "weights of a finished folder"), (" ", "must not be empty")):
        assert main([str(folder), prompt, "--out", str(tmp_path / "pictures")]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_usage(capsys):
    with pytest.raises(SystemExit) as end:
        main(["folder"])
    assert end.value.code == 2
    assert "--out" in capsys.readouterr().err


def test_pictures_do_not_go_into_the_export_or_a_file(folder, tmp_path, capsys):
    before = {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}
    (tmp_path / "file").write_text("mine")
    for out, said in ((folder / "new", "must lie outside"), (tmp_path / "file", "(a file)")):
        assert main([str(folder), "red apple", "--out", str(out)]) == 2
        assert said in capsys.readouterr().err
    assert {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")} == before
    assert (tmp_path / "file").read_text() == "mine"


@pytest.fixture
def drawn(parts, monkeypatch) -> list[tuple[Path, int, str | None]]:
    """How `python -m edgekd.runtime` opens a folder; its parts remember how they are called."""
    opened: list[tuple[Path, int, str | None]] = []

    def open_folder(path: Path, threads: int, sampler: str | None) -> Pipeline:
        opened.append((path, threads, sampler))
        described = read_folder(path, sampler)
        return Pipeline(described, parts, tuple(open_encoders(described, parts)))

    monkeypatch.setattr(Pipeline, "open", open_folder)
    return opened


def test_the_options_of_generate(folder, parts, tmp_path, drawn, capsys):
    out = tmp_path / "pictures"
    options = ["--out", str(out), "--steps", "3", "--sampler", "heun", "--guidance", "0"]
    options += ["--height", "32", "--width", "48", "--negative-prompt", "rain"]
    assert main([str(folder), *options, "--", "-led by a dash", "--two"]) == 0
    assert capsys.readouterr().out.split() == [str(out / f"000{i}.png") for i in (0, 1)]
    assert drawn == [(folder, 0, "heun")]
    # Heun's method takes two calls for each step but the last; guidance 0 is none.
    assert parts.shapes("unet", "sample") == [(2, 4, 8, 12)] * 5


def test_other_samplers_are_refused(folder, tmp_path, drawn, capsys):
    assert main([str(folder), "a", "--out", str(tmp_path / "o"), "--sampler", "plms"]) == 2
    assert "error: the sampler must be one of ddim" in capsys.readouterr().err
